#include "textflag.h"

// The handler of a signal that is to be forwarded, see forward_amd64.s. Here the
// signal's number comes in R0, and the kernel knows itself where to return to.
TEXT ·forwardSignal(SB),NOSPLIT|NOFRAME,$0-0
	MOVW	R0, R1
	MOVD	$·forwardBusy(SB), R11
enter:
	LDAXRW	(R11), R5
	ADDW	$1, R5
	STLXRW	R5, (R11), R6
	CBNZ	R6, enter
	DMB	$0xb             // inner shareable, loads and stores
	MOVD	$·forwardTo(SB), R9
	LDARW	(R9), R0
	TBZ	$31, R0, send
	SUB	$1, R1, R3
	MOVD	$1, R4
	LSL	R3, R4, R4
	MOVD	$·forwardHeld(SB), R10
hold:
	LDAXR	(R10), R5
	ORR	R4, R5, R5
	STLXR	R5, (R10), R6
	CBNZ	R6, hold
	DMB	$0xb
	LDARW	(R9), R0
	TBNZ	$31, R0, done
take:
	LDAXR	(R10), R5
	TST	R4, R5
	BEQ	done
	BIC	R4, R5, R7
	STLXR	R7, (R10), R6
	CBNZ	R6, take
send:
	// pidfd_send_signal(forwardTo, signal, NULL, 0)
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$424, R8
	SVC
done:
	LDAXRW	(R11), R5
	SUBW	$1, R5
	STLXRW	R5, (R11), R6
	CBNZ	R6, done
	RET

// func forwardCode() (handler, restorer uintptr)
TEXT ·forwardCode(SB),NOSPLIT,$0-16
	MOVD	$·forwardSignal(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
