// Command base is the user land of the built-in image: every command of it in one static program, which acts as the
// command whose name it was started by. See package userland.
package main

import (
	"os"

	"github.com/containr/containr/internal/userland"
)

func main() { os.Exit(userland.Main(os.Args)) }
