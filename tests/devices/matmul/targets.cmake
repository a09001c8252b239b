flyover_test(devices_matmul SOURCES matmul/operands.cpp matmul/matmul_test.cpp matmul/matmul_contract_test.cpp
             DEPENDS devices_cpu_matmul)
