# All devices against the reference, and meta, which stands for each of them.
if(TARGET flyover_devices AND TARGET flyover_tensor)
  flyover_test(devices_conformance
               SOURCES conformance/cpu_test.cpp conformance/delayed_test.cpp conformance/device_case.cpp
               conformance/meta_test.cpp
               DEPENDS devices tensor LINK flyover_devices_test_support)
endif()
