package usernet

import (
	"testing"

	"github.com/containr/containr/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
