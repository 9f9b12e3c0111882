/* How an image that is a test ends QEMU: semihosting. Arm "Semihosting for AArch32 and AArch64". */
#ifndef TG_SEMIHOST_H
#define TG_SEMIHOST_H

#include <stdint.h>

#define SEMIHOST_WRITE0 0x04u
#define SEMIHOST_EXIT_EXTENDED 0x20u
#define SEMIHOST_APPLICATION_EXIT 0x20026u

static inline void semihost_call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static inline void semihost_write(const char *text)
{
    semihost_call(SEMIHOST_WRITE0, text);
}

static inline void semihost_exit(uint32_t code)
{
    const uint32_t block[2] = {SEMIHOST_APPLICATION_EXIT, code};
    for (;;) {
        semihost_call(SEMIHOST_EXIT_EXTENDED, block);
    }
}

#endif
