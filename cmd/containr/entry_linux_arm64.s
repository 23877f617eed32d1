#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVD ·profileRate(SB), R2
	MOVD ZR, (R2)              // runtime.MemProfileRate
	ADD  $16, RSP, R3          // the first argument, if there is one

argument:
	MOVD.P 8(R3), R4
	CBZ    R4, ordinary
	MOVD   (R4), R4
	MOVD   $·words(SB), R5

word:
	MOVD (R5), R6              // the mask
	CBZ  R6, argument
	AND  R4, R6
	MOVD 8(R5), R7
	CMP  R7, R6
	BEQ  short
	ADD  $16, R5
	B    word

short:
	MOVD $261, R8              // prlimit64(0, RLIMIT_NOFILE, NULL, &lowered)
	MOVD $0, R0
	MOVD $7, R1
	MOVD $0, R2
	MOVD $github·com∕containr∕containr∕internal∕filelimit·lowered(SB), R3
	SVC
	CBNZ R0, slack
	MOVD 8(R3), R5
	MOVD $3, R4
	SUB  $16, RSP
	STP  (R4, R5), (RSP)
	MOVD $0, R0                // prlimit64(0, RLIMIT_NOFILE, {3, hard}, NULL)
	MOVD RSP, R2
	MOVD $0, R3
	SVC
	ADD  $16, RSP

slack:
	MOVD $167, R8              // prctl(PR_GET_TIMERSLACK)
	MOVD $30, R0
	SVC
	CMP  $0, R0
	BLE  variable
	MOVD $github·com∕containr∕containr∕internal∕timerslack·original(SB), R4
	MOVD R0, (R4)
	MOVD $29, R0               // prctl(PR_SET_TIMERSLACK, 10 ms)
	MOVD $10000000, R1
	SVC

variable:
	MOVD 0(RSP), R2
	ADD  $2, R2                // words: the number, the arguments, the zero, and below the environment
	MOVD RSP, R3
	ADD  R2<<3, R3, R4

environment:
	MOVD.P 8(R4), R5
	CBZ    R5, room
	ADD    $1, R2
	B      environment

room:
	SUB  $16, RSP
	MOVD RSP, R4

move:
	MOVD.P 8(R3), R5
	MOVD.P R5, 8(R4)
	SUBS   $1, R2
	BNE    move
	MOVD   $·oneProcessor(SB), R5
	STP    (R5, R5), (R4)

ordinary:
	JMP _rt0_arm64_linux(SB)

DATA ·oneProcessor+0(SB)/8, $"GOMAXPRO"
DATA ·oneProcessor+8(SB)/8, $"CS=01\x00\x00\x00"
GLOBL ·oneProcessor(SB), NOPTR|RODATA, $16

#include "words.h"
