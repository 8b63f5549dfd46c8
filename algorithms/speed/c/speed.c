typedef unsigned char u8;
typedef int i32;
typedef long long i64;
#define EXPORT(n) __attribute__((export_name(#n)))
static union { i64 value[15]; i32 word[2]; } out;
static u8 input[96 + 524288] __attribute__((aligned(16)));
__asm__(".section .custom_section.lacre.module,\"\",@\n.ascii \"speed 1.0.0\"\n");
EXPORT(abi_version) i32 abi_version(void) { return 1; }
EXPORT(input_ptr) i32 input_ptr(void) { return (i32)input; }
EXPORT(input_cap) i32 input_cap(void) { return sizeof input; }
EXPORT(output_ptr) i32 output_ptr(void) { return (i32)&out; }
EXPORT(output_cap) i32 output_cap(void) { return sizeof out; }
EXPORT(measure) i32 measure(i32 len) { (void)len;
  for (i32 i = 0; i < 15; i++) out.value[i] = 0;
  out.word[0] = 1; out.word[1] = 14;
  return sizeof out;
}
