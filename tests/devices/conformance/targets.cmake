# All devices against the reference. The CPU device needs all of its families.
set(conformance_families cpu_matmul cpu_attention cpu_norm cpu_rope cpu_mlp cpu_router cpu_experts cpu_rows cpu_loss
          cpu_optimizer cpu_elementwise cpu_sample cpu_hyper_connection cpu_streams cpu_compressor
          cpu_shared_attention cpu_indexer)
if(TARGET flyover_devices_cpu_matmul AND TARGET flyover_devices_cpu_attention AND TARGET flyover_devices_cpu_norm
   AND TARGET flyover_devices_cpu_rope AND TARGET flyover_devices_cpu_mlp
   AND TARGET flyover_devices_cpu_router AND TARGET flyover_devices_cpu_experts AND TARGET flyover_devices_cpu_rows
   AND TARGET flyover_devices_cpu_loss AND TARGET flyover_devices_cpu_optimizer
   AND TARGET flyover_devices_cpu_elementwise AND TARGET flyover_devices_cpu_sample
AND TARGET flyover_devices_cpu_hyper_connection AND TARGET flyover_devices_cpu_streams AND TARGET
          flyover_devices_cpu_compressor flyover_devices_cpu_shared_attention flyover_devices_cpu_indexer)
  list(TRANSFORM conformance_families PREPEND devices_)
  flyover_test(devices_conformance SOURCES conformance/cpu_test.cpp DEPENDS ${conformance_families}
               LINK flyover_devices_test_support)
endif()
