#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ ·profileRate(SB), AX
	MOVQ $0, (AX)              // runtime.MemProfileRate
	LEAQ 16(SP), SI            // the first argument, if there is one
argument:
	MOVQ (SI), AX
	TESTQ AX, AX
	JZ   ordinary
	ADDQ $8, SI
	MOVQ (AX), AX
	LEAQ ·words(SB), DI
word:
	MOVQ (DI), DX              // the mask
	TESTQ DX, DX
	JZ   argument
	ANDQ AX, DX
	CMPQ DX, 8(DI)
	JEQ  short
	ADDQ $16, DI
	JMP  word
short:
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
	MOVQ 0(SP), AX
	LEAQ 16(SP)(AX*8), SI      // the environment
environment:
	MOVQ (SI), AX
	ADDQ $8, SI
	TESTQ AX, AX
	JNZ  environment
	LEAQ -8(SI), CX            // its end
	SUBQ SP, CX
	SHRQ $3, CX                // words: the number, the arguments, the zero, the environment
	MOVQ SP, SI
	SUBQ $16, SP
	MOVQ SP, DI
	CLD
	REP; MOVSQ
	LEAQ ·oneProcessor(SB), AX
	MOVQ AX, 0(DI)
	MOVQ AX, 8(DI)
ordinary:
	JMP  _rt0_amd64_linux(SB)

DATA ·oneProcessor+0(SB)/8, $"GOMAXPRO"
DATA ·oneProcessor+8(SB)/8, $"CS=01\x00\x00\x00"
GLOBL ·oneProcessor(SB), NOPTR|RODATA, $16

#include "words.h"
