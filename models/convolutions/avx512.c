/* The level of processors with AVX-512: 32 registers of 16 floats. */

#if !defined(TARGET) && defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#endif

#ifdef TARGET
#define LEVEL avx512
#define LANES 16
#define ROWS 8
#define COLUMNS 2
#define TAPS 12
#define BLOCKS 16
#include "kernels.h"
#endif
