file(GLOB reference_sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} reference/*.cpp)
flyover_test(devices_reference SOURCES ${reference_sources} DEPENDS devices_reference LINK flyover_devices_test_support)
