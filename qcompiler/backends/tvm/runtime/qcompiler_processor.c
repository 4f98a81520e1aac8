/* Which instruction-set extensions the processor has, and its operating system lets programs use. */
#include "qcompiler_runtime.h"

#include <string.h>

#ifdef QCOMPILER_NO_THREADS
#define PER_THREAD
#else
#define PER_THREAD _Thread_local
#endif

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

/* Registers that the operating system must save on a switch of tasks, as bits of XCR0: Intel's Software Developer's
 * Manual, volume 1, section 13.1. */
enum { NONE = 0, YMM = 0x6, ZMM = 0xe6, TILES = 0x60006 };
enum { EAX, EBX, ECX, EDX };

/* Where CPUID tells of an extension: volume 2A of the same manual; AMD's manual, volume 3, appendix E, for the leaf
 * 0x80000001. Names are LLVM's. */
static const struct {
    const char *name;
    uint32_t leaf, subleaf, word, bit, state;
} extensions[] = {
    {"cx8", 1, 0, EDX, 8, NONE},
    {"cmov", 1, 0, EDX, 15, NONE},
    {"mmx", 1, 0, EDX, 23, NONE},
    {"fxsr", 1, 0, EDX, 24, NONE},
    {"sse", 1, 0, EDX, 25, NONE},
    {"sse2", 1, 0, EDX, 26, NONE},
    {"sse3", 1, 0, ECX, 0, NONE},
    {"pclmul", 1, 0, ECX, 1, NONE},
    {"ssse3", 1, 0, ECX, 9, NONE},
    {"fma", 1, 0, ECX, 12, YMM},
    {"cx16", 1, 0, ECX, 13, NONE},
    {"sse4.1", 1, 0, ECX, 19, NONE},
    {"sse4.2", 1, 0, ECX, 20, NONE},
    {"movbe", 1, 0, ECX, 22, NONE},
    {"popcnt", 1, 0, ECX, 23, NONE},
    {"aes", 1, 0, ECX, 25, NONE},
    {"avx", 1, 0, ECX, 28, YMM},
    {"f16c", 1, 0, ECX, 29, YMM},
    {"bmi", 7, 0, EBX, 3, NONE},
    {"avx2", 7, 0, EBX, 5, YMM},
    {"bmi2", 7, 0, EBX, 8, NONE},
    {"avx512f", 7, 0, EBX, 16, ZMM},
    {"avx512dq", 7, 0, EBX, 17, ZMM},
    {"adx", 7, 0, EBX, 19, NONE},
    {"avx512ifma", 7, 0, EBX, 21, ZMM},
    {"avx512cd", 7, 0, EBX, 28, ZMM},
    {"avx512bw", 7, 0, EBX, 30, ZMM},
    {"avx512vl", 7, 0, EBX, 31, ZMM},
    {"avx512vbmi", 7, 0, ECX, 1, ZMM},
    {"avx512vbmi2", 7, 0, ECX, 6, ZMM},
    {"gfni", 7, 0, ECX, 8, NONE},
    {"vaes", 7, 0, ECX, 9, YMM},
    {"vpclmulqdq", 7, 0, ECX, 10, YMM},
    {"avx512vnni", 7, 0, ECX, 11, ZMM},
    {"avx512bitalg", 7, 0, ECX, 12, ZMM},
    {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM},
    {"avx512fp16", 7, 0, EDX, 23, ZMM},
    {"amx-bf16", 7, 0, EDX, 22, TILES},
    {"amx-tile", 7, 0, EDX, 24, TILES},
    {"amx-int8", 7, 0, EDX, 25, TILES},
    {"avxvnni", 7, 1, EAX, 4, YMM},
    {"avx512bf16", 7, 1, EAX, 5, ZMM},
    {"avxifma", 7, 1, EAX, 23, YMM},
    {"avxvnniint8", 7, 1, EDX, 4, YMM},
    {"avxvnniint16", 7, 1, EDX, 10, YMM},
    {"sahf", 0x80000001, 0, ECX, 0, NONE},
    {"lzcnt", 0x80000001, 0, ECX, 5, NONE},
};

/* The registers that the operating system saves; none where it does not say. */
static uint32_t saved_state(void) {
    uint32_t words[4];
    if (!__get_cpuid(1, &words[EAX], &words[EBX], &words[ECX], &words[EDX])) return 0;
    if (!(words[ECX] >> 27 & 1)) return 0; /* OSXSAVE */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int has_extension(size_t index) {
    uint32_t words[4];
    if (!__get_cpuid_count(extensions[index].leaf, extensions[index].subleaf, &words[EAX], &words[EBX], &words[ECX],
                           &words[EDX]))
        return 0;
    /* Subleaf 0 of leaf 7 says how many subleaves there are; beyond them, processors answer what they like. */
    if (extensions[index].leaf == 7 && extensions[index].subleaf) {
        uint32_t first[4] = {0};
        __get_cpuid_count(7, 0, &first[EAX], &first[EBX], &first[ECX], &first[EDX]);
        if (first[EAX] < extensions[index].subleaf) return 0;
    }
    const uint32_t state = extensions[index].state;
    return (words[extensions[index].word] >> extensions[index].bit & 1) && (saved_state() & state) == state;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

/* Bits of AT_HWCAP and AT_HWCAP2: Documentation/arch/arm64/elf_hwcaps.rst in Linux. Names are LLVM's. */
static const struct {
    const char *name;
    unsigned long kind;
    uint32_t bit;
} extensions[] = {
    {"neon", AT_HWCAP, 1},     {"crc", AT_HWCAP, 7},      {"lse", AT_HWCAP, 8},   {"fullfp16", AT_HWCAP, 10},
    {"rdm", AT_HWCAP, 12},     {"dotprod", AT_HWCAP, 20}, {"sve", AT_HWCAP, 22},  {"sve2", AT_HWCAP2, 1},
    {"i8mm", AT_HWCAP2, 13},   {"bf16", AT_HWCAP2, 14},
};

static int has_extension(size_t index) { return getauxval(extensions[index].kind) >> extensions[index].bit & 1; }

#else

/* Nobody to ask: whoever built for this processor has chosen its extensions. */
#define NO_ANSWER

#endif

#ifdef NO_ANSWER

const char *qcompiler_missing_instructions(const char *required) {
    (void)required;
    return NULL;
}

#else

static int is_available(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (strlen(extensions[i].name) == length && !memcmp(extensions[i].name, name, length)) return has_extension(i);
    return 0;
}

const char *qcompiler_missing_instructions(const char *required) {
    static PER_THREAD char missing[512];
    size_t used = 0;
    for (const char *name = required; *name;) {
        const size_t length = strcspn(name, " ");
        if (length && !is_available(name, length) && used + length + 2 <= sizeof missing) {
            if (used) missing[used++] = ' ';
            memcpy(missing + used, name, length);
            used += length;
        }
        name += length + (name[length] == ' ');
    }
    missing[used] = 0;
    return used ? missing : NULL;
}

#endif
