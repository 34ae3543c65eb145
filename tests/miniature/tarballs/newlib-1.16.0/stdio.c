/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int errno;

size_t strlen(const char *text)
{
    const char *end = text;

    while (*end)
        end++;
    return end - text;
}

int putchar(int byte)
{
    char written = byte;

    write(1, &written, 1);
    return byte;
}

static int put_text(const char *text)
{
    return write(1, text, strlen(text));
}

int puts(const char *text)
{
    return put_text(text) + put_text("\n");
}

static int put_number(unsigned long number, unsigned base)
{
    char digits[24];
    char *start = digits + sizeof digits - 1;

    *start = 0;
    do
        *--start = "0123456789abcdef"[number % base];
    while (number /= base);
    return put_text(start);
}

/* Knows %s, %c, %d, %u, %x and %%. */
int printf(const char *format, ...)
{
    va_list arguments;
    int written = 0;

    va_start(arguments, format);
    for (; *format; format++) {
        int number;

        if (*format != '%') {
            putchar(*format);
            written++;
            continue;
        }
        switch (*++format) {
        case 's':
            written += put_text(va_arg(arguments, const char *));
            break;
        case 'd':
            number = va_arg(arguments, int);
            if (number < 0)
                written += put_text("-");
            written += put_number(number < 0 ? -(long)number : number, 10);
            break;
        case 'u':
            written += put_number(va_arg(arguments, unsigned), 10);
            break;
        case 'x':
            written += put_number(va_arg(arguments, unsigned), 16);
            break;
        case 'c':
            putchar(va_arg(arguments, int));
            written++;
            break;
        default:
            putchar(*format);
            written++;
        }
    }
    va_end(arguments);
    return written;
}

/* Knows %d alone. */
int vsscanf(const char *text, const char *format, va_list arguments)
{
    int *number = va_arg(arguments, int *);

    (void)format;
    if (*text < '0' || *text > '9')
        return 0;
    for (*number = 0; *text >= '0' && *text <= '9'; text++)
        *number = *number * 10 + *text - '0';
    return 1;
}
