/* The level of processors with AVX2 and FMA: 16 registers of 8 floats. */

#if !defined(TARGET) && defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx2,fma")))
#endif

#ifdef TARGET
#define LEVEL avx2
#define LANES 8
#define ROWS 4
#define COLUMNS 2
#define TAPS 6
#define BLOCKS 10
#include "kernels.h"
#endif
