package profile

import "slices"

// StrictRefused are the calls that Strict takes from the default, or has rules of its own for.
var StrictRefused = slices.Concat(strictRefused, strictConditional)
