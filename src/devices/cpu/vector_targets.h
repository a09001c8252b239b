// For which instruction sets Highway compiles a kernel file: AVX2 and AVX3 (AVX-512), besides its own portable
// fallback, for which the kernels define nothing. Included before any header of Highway.
#pragma once

// The macros are Highway's configuration (hwy/detect_targets.h). Targets between the fallback and AVX2 are never used.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_COMPILE_ALL_ATTAINABLE
