/* The golden vectors on this host: exit code 0, or 1 and the first that failed. */
#include <stdio.h>

#include "tg_golden.h"

int main(void)
{
    int failures = tg_golden();
    if (failures)
        printf("%d of %lu failed, the first: %s\n", failures,
               (unsigned long)(tg_golden_vector_count + tg_golden_stream_count), tg_golden_failed);
    return failures != 0;
}
