/* Which levels of the convolutions (kernels.h) were compiled and run on this processor. */

#define INTERFACE 2 /* of the exported functions; it is counted up when one of them is called in another way */

int convolutions_interface(void) { return INTERFACE; }

/* Names of the levels, the best first, separated by spaces. */
const char *convolutions_levels(void) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return "";
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return "avx512 avx2";
  return "avx2";
#elif defined(__aarch64__) && defined(__GNUC__)
  return "neon";
#else
  return "";
#endif
}
