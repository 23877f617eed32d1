package main

import (
	"fmt"
	"strings"

	"github.com/containr/containr/internal/errcode"
)

// errorGroups are the chapters of the page of errors, by the first digit of their codes.
var errorGroups = map[byte]string{
	'0': "The command line", '1': "Containers", '2': "Images, layers and registries", '3': "This machine",
	'4': "The program in the container", '5': "Steps of a plan",
}

// errorsPage is the page of all error codes.
func errorsPage() string {
	var b strings.Builder
	b.WriteString("<!-- Written by go generate ./internal/cli. Do not edit. -->\n\n# Errors\n\n" +
		"What each code of an error means, why it happens, and what to do. `containr explain CTR-NNNN` prints the same. With\n" +
		"`--error-format json` the error that ends a command is one line of JSON: `code`, `message`, `hint`. A code never changes its\n" +
		"meaning.\n")
	group := byte(0)
	for _, e := range errcode.All() {
		if digit := e.Code[len("CTR-")]; digit != group {
			group = digit
			fmt.Fprintf(&b, "\n## %s\n", errorGroups[digit])
		}
		fmt.Fprintf(&b, "\n### %s: %s\n\n%s\n", e.Code, markdown(e.Title), markdown(e.Cause))
		writeList(&b, "Likely reasons", e.Reasons)
		writeList(&b, "What to do", e.Do)
	}
	return b.String()
}

func writeList(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "* %s\n", markdown(l))
	}
}

// markdown escapes what would be formatting outside of backquotes.
func markdown(s string) string {
	parts := strings.Split(s, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`).Replace(parts[i])
	}
	return strings.Join(parts, "`")
}
