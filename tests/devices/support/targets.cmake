# Random cases for every kernel and the comparison of two devices; the tests of all devices use them.
add_library(flyover_devices_test_support STATIC ${CMAKE_CURRENT_LIST_DIR}/any_kernel.cpp ${CMAKE_CURRENT_LIST_DIR}/attention_cases.cpp
            ${CMAKE_CURRENT_LIST_DIR}/expert_cases.cpp ${CMAKE_CURRENT_LIST_DIR}/router_cases.cpp
            ${CMAKE_CURRENT_LIST_DIR}/hyper_connection_cases.cpp ${CMAKE_CURRENT_LIST_DIR}/compressor_cases.cpp
            ${CMAKE_CURRENT_LIST_DIR}/kernel_cases.cpp ${CMAKE_CURRENT_LIST_DIR}/operands.cpp
            ${CMAKE_CURRENT_LIST_DIR}/run_case.cpp ${CMAKE_CURRENT_LIST_DIR}/shared_attention_cases.cpp
            ${CMAKE_CURRENT_LIST_DIR}/shared_documents.cpp ${CMAKE_CURRENT_LIST_DIR}/indexer_cases.cpp
            ${CMAKE_CURRENT_LIST_DIR}/muon_cases.cpp ${CMAKE_CURRENT_LIST_DIR}/quantisation_cases.cpp)
target_link_libraries(flyover_devices_test_support PUBLIC flyover_test_support flyover_devices_reference)
target_compile_options(flyover_devices_test_support PRIVATE ${FLYOVER_COMPILE_QUICKLY})
