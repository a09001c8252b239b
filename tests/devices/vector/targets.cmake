flyover_test(devices_vector
  SOURCES vector/elementwise_test.cpp vector/experts_test.cpp vector/grouped_matmul_test.cpp vector/instruction_set_test.cpp vector/loss_test.cpp
          vector/math_test.cpp vector/mlp_test.cpp vector/muon_test.cpp vector/norm_test.cpp vector/optimizer_test.cpp
          vector/rope_test.cpp vector/router_test.cpp vector/rows_test.cpp vector/sample_test.cpp
          vector/test_tensor.cpp vector/compressor_test.cpp vector/hyper_connection_test.cpp
  DEPENDS devices_cpu_elementwise devices_cpu_experts devices_cpu_loss devices_cpu_matmul devices_cpu_mlp
          devices_cpu_muon devices_cpu_norm devices_cpu_optimizer devices_cpu_rope devices_cpu_router devices_cpu_rows
          devices_cpu_sample base devices_cpu_compressor devices_cpu_hyper_connection devices_cpu_streams ALONE)
