/* What gcc may call for a struct's copy or its zeroes, where there is no libc. Built without the optimisation that would
   make of these loops calls of themselves. */
#include <stddef.h>

void *memset(void *to, int value, size_t n);
void *memcpy(void *to, const void *from, size_t n);

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int value, size_t n)
{
    unsigned char *at = to;
    while (n--) {
        *at++ = (unsigned char)value;
    }
    return to;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memcpy(void *to, const void *from, size_t n)
{
    unsigned char *at = to;
    const unsigned char *source = from;
    while (n--) {
        *at++ = *source++;
    }
    return to;
}
