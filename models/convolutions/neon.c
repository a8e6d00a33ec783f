/* The level of 64-bit Arm processors, all of which have NEON: 32 registers of 4 floats. */

#if !defined(TARGET) && defined(__aarch64__) && defined(__GNUC__)
#define TARGET
#endif

#ifdef TARGET
#define LEVEL neon
#define LANES 4
#define ROWS 4
#define COLUMNS 4
#define TAPS 6
#define BLOCKS 18
#include "kernels.h"
#endif
