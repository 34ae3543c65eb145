/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */

/* How a paravirtual kernel begins: what it tells the domain builder, and its first instruction. */

/* A note is: length of the owner's name, length of the value, type, name, value; each padded to four bytes. */
        .macro  note type, kind:vararg
        .balign 4
        .long   4, 2f - 1f, \type
        .asciz  "Xen"
1:      \kind
2:      .balign 4
        .endm

/* Types: xen/include/public/elfnote.h. */
        .section .note.Xen, "a", @note
        note    1, .quad _start                 /* ENTRY */
        note    2, .quad hypercall_page         /* HYPERCALL_PAGE */
        note    3, .quad 0                      /* VIRT_BASE: virtual addresses begin where the domain's memory does */
        note    4, .quad 0                      /* PADDR_OFFSET */
        note    5, .asciz "xen-3.0"             /* XEN_VERSION of the interface */
        note    6, .asciz "miniature"           /* GUEST_OS */
        note    8, .asciz "generic"             /* LOADER */

        .text
        .globl  _start
_start:
        cld
        leaq    stack_end(%rip), %rsp
        xorl    %ebp, %ebp
        movq    %rsi, %rdi                      /* start_info */
        call    kernel

        .globl  hypercall
hypercall:                                      /* long hypercall(unsigned number, a, b, c) */
        movl    %edi, %eax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        shll    $5, %eax                        /* the hypervisor writes 32 bytes of code for each number */
        addq    $hypercall_page, %rax
        jmp     *%rax

        .balign 4096
        .globl  hypercall_page
hypercall_page:
        .skip   4096

        .bss
        .balign 4096
        .globl  shared_info_page
shared_info_page:                               /* the hypervisor's page is mapped over this one */
        .skip   4096
        .skip   16384
stack_end:

        .section .note.GNU-stack, "", @progbits
