#include "textflag.h"

// func getrlimit(limit *[2]uint64) int
TEXT ·getrlimit(SB), NOSPLIT, $0-16
	MOVQ $302, AX // prlimit64(0, RLIMIT_NOFILE, NULL, limit)
	XORL DI, DI
	MOVL $7, SI
	XORL DX, DX
	MOVQ limit+0(FP), R10
	SYSCALL
	MOVQ AX, ret+8(FP)
	RET
