#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVL $302, AX              // prlimit64(0, RLIMIT_NOFILE, NULL, &lowered)
	XORL DI, DI
	MOVL $7, SI
	XORL DX, DX
	LEAQ github·com∕containr∕containr∕internal∕filelimit·lowered(SB), R10
	SYSCALL
	TESTQ AX, AX
	JNZ  slack
	MOVQ 8(R10), AX
	PUSHQ AX
	PUSHQ $3
	MOVQ SP, DX
	MOVL $302, AX              // prlimit64(0, RLIMIT_NOFILE, {3, hard}, NULL)
	XORL R10, R10
	SYSCALL
	ADDQ $16, SP
slack:
	MOVL $157, AX              // prctl(PR_GET_TIMERSLACK)
	MOVL $30, DI
	SYSCALL
	TESTQ AX, AX
	JLE  variable
	MOVQ AX, github·com∕containr∕containr∕internal∕timerslack·original(SB)
	MOVL $157, AX              // prctl(PR_SET_TIMERSLACK, 10 ms)
	MOVL $29, DI
	MOVL $10000000, SI
	SYSCALL
variable:
	MOVQ ·profileRate(SB), AX
	MOVQ $0, (AX)              // runtime.MemProfileRate
	MOVQ 0(SP), CX
	ADDQ $2, CX                // words: the number, the arguments, the zero
	MOVQ SP, SI
	SUBQ $16, SP
	MOVQ SP, DI
	CLD
	REP; MOVSQ
	LEAQ ·oneProcessor(SB), AX
	MOVQ AX, 0(DI)
	MOVQ AX, 8(DI)
	JMP  _rt0_amd64_linux(SB)

DATA ·oneProcessor+0(SB)/8, $"GOMAXPRO"
DATA ·oneProcessor+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL ·oneProcessor(SB), NOPTR|RODATA, $16
