package tty

import (
	"context"
	"io"
	"os"
)

// Input returns a reader of in that ends with ctx, with its cause: a read of a terminal or a pipe can take for ever, and
// no signal ends it. What was asked for by then is still read, and lost. From now on in is this reader's.
func Input(ctx context.Context, in *os.File) io.Reader {
	if info, err := in.Stat(); err == nil && info.Mode().IsRegular() {
		return in // which keeps nobody waiting, and can be sought in
	}
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	return r
}
