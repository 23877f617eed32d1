#include "textflag.h"

// The interpreter for arm64; interp_amd64.s explains it line by line.
//
//	R19  the current Instruction
//	R20  the status block
//
// The kernel takes the number in R8 and the arguments in R0 to R5; it returns in
// R0 and destroys nothing else. R21 to R24 are scratch.
TEXT ·interpreter(SB),NOSPLIT|NOFRAME,$0-0
run:
	MOVBU	4(R19), R21
	MOVD	16(R19), R0
	TBZ	$0, R21, arg1
	MOVD	(R0), R0
arg1:
	MOVD	24(R19), R1
	TBZ	$1, R21, arg2
	MOVD	(R1), R1
arg2:
	MOVD	32(R19), R2
	TBZ	$2, R21, arg3
	MOVD	(R2), R2
arg3:
	MOVD	40(R19), R3
	TBZ	$3, R21, arg4
	MOVD	(R3), R3
arg4:
	MOVD	48(R19), R4
	TBZ	$4, R21, arg5
	MOVD	(R4), R4
arg5:
	MOVD	56(R19), R5
	TBZ	$5, R21, before
	MOVD	(R5), R5
before:
	MOVBU	5(R19), R21
	TBZ	$3, R21, call        // flagStamp
	MRS	CNTVCT_EL0, R23
	MOVD	40(R20), R22
	ADD	R19, R22, R22
	MOVD	R23, 8(R22)
call:
	MOVWU	0(R19), R8
	SVC

	MOVD	64(R19), R22
	CBZ	R22, stamp
	MOVD	R0, (R22)
stamp:
	TBZ	$3, R21, check
	MOVD	40(R20), R22
	ADD	R19, R22, R22
	MOVD	R0, 0(R22)
	MRS	CNTVCT_EL0, R23
	MOVD	R23, 16(R22)
check:
	CMN	$4095, R0
	BCS	failed
	TBZ	$2, R21, zero        // flagClone
	CBNZ	R0, other
	B	next
zero:
	TBZ	$1, R21, next        // flagZeroFails
	CBNZ	R0, next
	MOVD	$32, R0              // EPIPE
	B	fatal
next:
	MOVW	72(R19), R21
	ADD	R21, R19, R19
	B	run
other:
	MOVW	76(R19), R21
	ADD	R21, R19, R19
	B	run
failed:
	NEG	R0, R0
	CMP	$11, R0              // EAGAIN: once more, if there are tries left
	BNE	final
	MOVHU	6(R19), R22
	CBZ	R22, final
	SUB	$1, R22, R22
	MOVH	R22, 6(R19)
	B	run
final:
	TBNZ	$0, R21, other       // flagAnyError
	MOVHU	8(R19), R22
	CMP	R22, R0
	BEQ	other
	MOVHU	10(R19), R22
	CMP	R22, R0
	BEQ	other
	MOVHU	12(R19), R22
	CMP	R22, R0
	BEQ	other
	MOVHU	14(R19), R22
	CMP	R22, R0
	BEQ	other
fatal:
	MOVD	R0, 16(R20)
	MOVD	R19, 8(R20)
	MOVD	24(R20), R0
	MOVD	R20, R1
	MOVD	$24, R2
	MOVD	$64, R8
	SVC
	MOVD	32(R20), R0
	MOVD	$94, R8
	SVC
	BRK
TEXT ·interpreterEnd(SB),NOSPLIT|NOFRAME,$0-0
	RET

// func interpreterBounds() (begin *byte, size uintptr)
TEXT ·interpreterBounds(SB),NOSPLIT,$0-16
	MOVD	$·interpreter(SB), R0
	MOVD	R0, begin+0(FP)
	MOVD	$·interpreterEnd(SB), R1
	SUB	R0, R1, R1
	MOVD	R1, size+8(FP)
	RET

// func launch(args *cloneArgs, pc, status uintptr, all, old *uint64, slack uint64) int
TEXT ·launch(SB),NOSPLIT|NOFRAME,$0-56
	MOVD	$2, R0
	MOVD	all+24(FP), R1
	MOVD	old+32(FP), R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC
	MOVD	slack+40(FP), R1
	CBZ	R1, clone
	MOVD	$29, R0
	MOVD	$167, R8
	SVC
clone:
	MOVD	args+0(FP), R0
	MOVD	$88, R1
	MOVD	pc+8(FP), R19
	MOVD	status+16(FP), R20
	MOVD	$435, R8
	SVC
	CBZ	R0, born
	MOVD	R0, R21
	MOVD	$2, R0
	MOVD	old+32(FP), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC
	MOVD	R21, ret+48(FP)
	RET
born:
	B	·interpreter(SB)

// func clock() uint64
TEXT ·clock(SB),NOSPLIT,$0-8
	MRS	CNTVCT_EL0, R0
	MOVD	R0, ret+0(FP)
	RET
