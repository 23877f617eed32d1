#include "textflag.h"

// func prlimit(set, limit *[2]uint64) int
TEXT ·prlimit(SB), NOSPLIT, $0-24
	MOVQ $302, AX // prlimit64(0, RLIMIT_NOFILE, set, limit)
	XORL DI, DI
	MOVL $7, SI
	MOVQ set+0(FP), DX
	MOVQ limit+8(FP), R10
	SYSCALL
	MOVQ AX, ret+16(FP)
	RET
