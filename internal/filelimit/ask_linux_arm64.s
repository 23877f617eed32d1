#include "textflag.h"

// func getrlimit(limit *[2]uint64) int
TEXT ·getrlimit(SB), NOSPLIT, $0-16
	MOVD $261, R8 // prlimit64(0, RLIMIT_NOFILE, NULL, limit)
	MOVD $0, R0
	MOVD $7, R1
	MOVD $0, R2
	MOVD limit+0(FP), R3
	SVC
	MOVD R0, ret+8(FP)
	RET
