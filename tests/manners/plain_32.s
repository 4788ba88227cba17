# plain.c in 32 bits, by hand: Debian's compiler for 64 bits lacks the files for 32, its assembler and linker do not.
.globl _start
.text
_start:
    andl $-16, %esp
    subl $16, %esp
    movl $1, (%esp)
    movl $text, 4(%esp)
    movl $length, 8(%esp)
    call write
    movl $3, (%esp)
    call exit
    hlt
.section .rodata
text:
    .ascii "plain 32\n"
length = . - text
.section .note.GNU-stack,"",@progbits
