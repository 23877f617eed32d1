#include "textflag.h"

// The handler of a signal that is to be forwarded. The kernel calls it with the
// signal's number in DI; every register may be changed. While there is nobody to
// forward to, the signal is held. Somebody may come between the look and the holding:
// then whoever clears the bit, we or To, sends the signal.
TEXT ·forwardSignal(SB),NOSPLIT|NOFRAME,$0-0
	MOVL	DI, SI
	LOCK
	INCL	·forwardBusy(SB)
	MOVL	·forwardTo(SB), DI
	TESTL	DI, DI
	JGE	send
	LEAL	-1(SI), CX
	LOCK
	BTSQ	CX, ·forwardHeld(SB)
	MOVL	·forwardTo(SB), DI
	TESTL	DI, DI
	JLT	done
	LOCK
	BTRQ	CX, ·forwardHeld(SB)
	JCC	done
send:
	// pidfd_send_signal(forwardTo, signal, NULL, 0)
	XORL	DX, DX
	XORL	R10, R10
	MOVL	$424, AX
	SYSCALL
done:
	LOCK
	DECL	·forwardBusy(SB)
	RET

// rt_sigreturn()
TEXT ·forwardReturn(SB),NOSPLIT|NOFRAME,$0-0
	MOVL	$15, AX
	SYSCALL
	INT	$3

// func forwardCode() (handler, restorer uintptr)
TEXT ·forwardCode(SB),NOSPLIT,$0-16
	LEAQ	·forwardSignal(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	·forwardReturn(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
