#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVD 0(RSP), R2
	ADD  $2, R2                // words: the number, the arguments, the zero
	MOVD RSP, R3
	SUB  $16, RSP
	MOVD RSP, R4

move:
	MOVD.P 8(R3), R5
	MOVD.P R5, 8(R4)
	SUBS   $1, R2
	BNE    move
	MOVD   $·oneProcessor(SB), R5
	STP    (R5, R5), (R4)
	JMP    _rt0_arm64_linux(SB)

DATA ·oneProcessor+0(SB)/8, $"GOMAXPRO"
DATA ·oneProcessor+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL ·oneProcessor(SB), NOPTR|RODATA, $16
