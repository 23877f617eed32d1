#include "textflag.h"

// func prlimit(set, limit *[2]uint64) int
TEXT ·prlimit(SB), NOSPLIT, $0-24
	MOVD $261, R8 // prlimit64(0, RLIMIT_NOFILE, set, limit)
	MOVD $0, R0
	MOVD $7, R1
	MOVD set+0(FP), R2
	MOVD limit+8(FP), R3
	SVC
	MOVD R0, ret+16(FP)
	RET
