#include "tg_box.h"

void tg_blackbox_start(tg_blackbox *box)
{
    box->taken = 0;
    box->filled = 0;
    box->held = false;
    box->n = 0;
    box->trip_at = 0;
    box->left = 0;
}

void tg_blackbox_configure(tg_blackbox *box, uint16_t pre_n, uint16_t post_n)
{
    box->pre_n = pre_n;
    box->post_n = post_n;
}

void tg_blackbox_push(tg_blackbox *box, int16_t code)
{
    if (box->held) {
        if (!box->left) {
            return;
        }
        box->left--;
    }
    box->codes[box->taken % TG_BOX_MAX] = code;
    box->taken++;
    if (box->filled < TG_BOX_MAX) {
        box->filled++;
    }
}

void tg_blackbox_trip(tg_blackbox *box)
{
    uint16_t there = box->filled ? 1 : 0;
    uint16_t before = box->filled ? (uint16_t)(box->filled - 1u) : 0;
    box->trip_at = before < box->pre_n ? before : box->pre_n;
    box->first = box->taken - there - box->trip_at;
    box->n = (uint16_t)(box->trip_at + 1u + box->post_n);
    box->left = (uint16_t)(box->post_n + 1u - there);
    box->held = true;
}

void tg_blackbox_release(tg_blackbox *box)
{
    box->held = false;
    box->n = 0;
    box->trip_at = 0;
    box->left = 0;
}

uint16_t tg_blackbox_ready(const tg_blackbox *box)
{
    return box->held ? (uint16_t)(box->n - box->left) : 0;
}

int16_t tg_blackbox_code(const tg_blackbox *box, uint16_t offset)
{
    return box->codes[(box->first + offset) % TG_BOX_MAX];
}
