package api

import (
	"cmp"

	"github.com/prometheus/common/version"
)

// Version is the version of this program, "devel" for a build that was not stamped with one.
func Version() string { return cmp.Or(version.Version, "devel") }
