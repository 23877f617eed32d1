#include "textflag.h"

// The interpreter for amd64. It is copied into every program, so it is position
// independent, and it uses no stack, no thread-local storage and no Go register
// convention: the process that runs it is not a Go process any more.
//
//	BX   the current Instruction (child.go)
//	R13  the status block
//
// The kernel takes the number in AX and the arguments in DI SI DX R10 R8 R9; it
// returns in AX and destroys CX and R11 only. R12 holds an instruction's flags
// and R14 an address, both for a few lines.
TEXT ·interpreter(SB),NOSPLIT|NOFRAME,$0-0
run:
	// Load the arguments. Bit i of the mask in R12: the word is the address of
	// the value.
	MOVBLZX	4(BX), R12
	MOVQ	16(BX), DI
	TESTB	$1, R12
	JZ	arg1
	MOVQ	(DI), DI
arg1:
	MOVQ	24(BX), SI
	TESTB	$2, R12
	JZ	arg3
	MOVQ	(SI), SI
arg3:
	MOVQ	40(BX), R10
	TESTB	$8, R12
	JZ	arg4
	MOVQ	(R10), R10
arg4:
	MOVQ	48(BX), R8
	TESTB	$16, R12
	JZ	arg5
	MOVQ	(R8), R8
arg5:
	MOVQ	56(BX), R9
	TESTB	$32, R12
	JZ	before
	MOVQ	(R9), R9
before:
	// With flagStamp, the clock goes to the trace record; RDTSC destroys AX and
	// DX, which is why the third argument comes after it.
	TESTB	$8, 5(BX)
	JZ	arg2
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	40(R13), R14
	ADDQ	BX, R14
	MOVQ	AX, 8(R14)
arg2:
	MOVQ	32(BX), DX
	TESTB	$4, R12
	JZ	call
	MOVQ	(DX), DX
call:
	MOVL	0(BX), AX
	SYSCALL

	// Store the result, good or bad: a register that holds a negative number
	// is an invalid descriptor.
	MOVBLZX	5(BX), R12
	MOVQ	64(BX), R14
	TESTQ	R14, R14
	JZ	stamp
	MOVQ	AX, (R14)
stamp:
	TESTB	$8, R12
	JZ	check
	MOVQ	40(R13), R14
	ADDQ	BX, R14
	MOVQ	AX, 0(R14)
	MOVQ	AX, DI
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, 16(R14)
	MOVQ	DI, AX
check:
	CMPQ	AX, $-4095
	JCC	failed
	TESTB	$4, R12          // flagClone: the parent goes elsewhere
	JZ	zero
	TESTQ	AX, AX
	JNZ	other
	JMP	next
zero:
	TESTB	$2, R12          // flagZeroFails
	JZ	next
	TESTQ	AX, AX
	JNZ	next
	MOVL	$32, AX          // EPIPE
	JMP	fatal
next:
	MOVLQSX	72(BX), AX
	ADDQ	AX, BX
	JMP	run
other:
	MOVLQSX	76(BX), AX
	ADDQ	AX, BX
	JMP	run
failed:
	NEGQ	AX
	CMPQ	AX, $11          // EAGAIN: once more, if there are tries left
	JNE	final
	CMPW	6(BX), $0
	JEQ	final
	DECW	6(BX)
	JMP	run
final:
	TESTB	$1, R12          // flagAnyError
	JNZ	other
	CMPW	AX, 8(BX)
	JEQ	other
	CMPW	AX, 10(BX)
	JEQ	other
	CMPW	AX, 12(BX)
	JEQ	other
	CMPW	AX, 14(BX)
	JEQ	other
fatal:
	// write(sync, status, 24); exit_group(code)
	MOVQ	AX, 16(R13)
	MOVQ	BX, 8(R13)
	MOVQ	24(R13), DI
	MOVQ	R13, SI
	MOVL	$24, DX
	MOVL	$1, AX
	SYSCALL
	MOVQ	32(R13), DI
	MOVL	$231, AX
	SYSCALL
	UD2
TEXT ·interpreterEnd(SB),NOSPLIT|NOFRAME,$0-0
	RET

// func interpreterBounds() (begin *byte, size uintptr)
TEXT ·interpreterBounds(SB),NOSPLIT,$0-16
	LEAQ	·interpreter(SB), AX
	MOVQ	AX, begin+0(FP)
	LEAQ	·interpreterEnd(SB), CX
	SUBQ	AX, CX
	MOVQ	CX, size+8(FP)
	RET

// func launch(args *cloneArgs, pc, status uintptr, all, old *uint64, slack uint64) int
//
// Blocks all signals, sets this thread's timer slack unless it is 0, clones, and in the
// new process jumps to the interpreter; in the old one restores the signals and returns
// the process id or a negative errno.
// With CLONE_VFORK the old process sleeps until the new one has executed its
// program, so that the two never use this stack at the same time; the new one
// does not use it at all.
TEXT ·launch(SB),NOSPLIT|NOFRAME,$0-56
	MOVL	$2, DI           // rt_sigprocmask(SIG_SETMASK, all, old, 8)
	MOVQ	all+24(FP), SI
	MOVQ	old+32(FP), DX
	MOVL	$8, R10
	MOVL	$14, AX
	SYSCALL
	MOVQ	slack+40(FP), SI // prctl(PR_SET_TIMERSLACK, slack)
	TESTQ	SI, SI
	JZ	clone
	MOVL	$29, DI
	MOVL	$157, AX
	SYSCALL
clone:
	MOVQ	args+0(FP), DI   // clone3(args, 88)
	MOVL	$88, SI
	MOVQ	pc+8(FP), BX
	MOVQ	status+16(FP), R13
	MOVL	$435, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	born
	MOVQ	AX, R12
	MOVL	$2, DI           // rt_sigprocmask(SIG_SETMASK, old, NULL, 8)
	MOVQ	old+32(FP), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$14, AX
	SYSCALL
	MOVQ	R12, ret+48(FP)
	RET
born:
	JMP	·interpreter(SB)

// func clock() uint64
TEXT ·clock(SB),NOSPLIT,$0-8
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ret+0(FP)
	RET
