/* Little-endian values at any address, byte by byte: no alias of another type, no alignment taken for granted. */
#ifndef TG_BYTES_H
#define TG_BYTES_H

#include <stdint.h>

static inline void tg_put_u8(uint8_t *at, uint8_t value) { at[0] = value; }

static inline void tg_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void tg_put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static inline void tg_put_u64(uint8_t *at, uint64_t value)
{
    tg_put_u32(at, (uint32_t)value);
    tg_put_u32(at + 4, (uint32_t)(value >> 32));
}

static inline void tg_put_i16(uint8_t *at, int16_t value) { tg_put_u16(at, (uint16_t)value); }
static inline void tg_put_i32(uint8_t *at, int32_t value) { tg_put_u32(at, (uint32_t)value); }

static inline uint8_t tg_get_u8(const uint8_t *at) { return at[0]; }
static inline uint16_t tg_get_u16(const uint8_t *at) { return (uint16_t)(at[0] | (uint16_t)(at[1] << 8)); }

static inline uint32_t tg_get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t tg_get_u64(const uint8_t *at) { return tg_get_u32(at) | (uint64_t)tg_get_u32(at + 4) << 32; }

/* Two's complement without an implementation-defined conversion. */
static inline int16_t tg_get_i16(const uint8_t *at)
{
    uint16_t value = tg_get_u16(at);
    return (int16_t)(value < 0x8000u ? (int32_t)value : (int32_t)value - 0x10000);
}

static inline int32_t tg_get_i32(const uint8_t *at)
{
    uint32_t value = tg_get_u32(at);
    return value < 0x80000000u ? (int32_t)value : (int32_t)(value - 0x80000000u) - 0x7FFFFFFF - 1;
}

#endif
