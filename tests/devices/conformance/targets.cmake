# All devices against the reference. The CPU device needs all of its families.
flyover_test(devices_conformance SOURCES conformance/cpu_test.cpp DEPENDS devices
             LINK flyover_devices_test_support)
