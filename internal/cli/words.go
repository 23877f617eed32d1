package cli

import (
	"errors"
	"strings"
)

var errQuote = errors.New("a quote is not closed")

// splitWords splits a command line into words as a shell does: blanks separate,
// single quotes keep everything, double quotes and the backslash keep blanks and
// quotes. Nothing is expanded.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			i++
			if i == len(line) {
				return nil, errQuote
			}
			if quote == '"' && strings.IndexByte("\"\\$`", line[i]) < 0 {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
		inWord = true
	}
	if quote != 0 {
		return nil, errQuote
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
