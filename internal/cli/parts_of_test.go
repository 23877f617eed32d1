package cli

import (
	"errors"
	"fmt"
	"testing"
)

func TestPartsOf(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	for _, x := range []struct {
		err  error
		want string
	}{
		{a, "[a]"}, {errors.Join(a, b), "[a b]"}, {errors.Join(errors.Join(a, b), nil, c), "[a b c]"},
		{fmt.Errorf("both: %w, %w", a, b), "[both: a, b]"}, {fmt.Errorf("x: %w", errors.Join(a, b)), "[x: a\nb]"},
	} {
		if got := fmt.Sprint(partsOf(x.err)); got != x.want {
			t.Errorf("%q: %s, want %s", x.err, got, x.want)
		}
	}
}
