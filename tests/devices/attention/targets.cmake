flyover_test(devices_attention
  SOURCES attention/attention_contract_test.cpp attention/attention_operands.cpp attention/attention_test.cpp
          attention/plain_attention.cpp attention/value_width_test.cpp
  DEPENDS devices_cpu_attention)
