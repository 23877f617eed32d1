#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
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
