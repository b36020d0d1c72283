package api

import (
	"cmp"

	"github.com/prometheus/common/version"
)

// Version is the version of this program; "devel" for a build without a version stamp.
func Version() string { return cmp.Or(version.Version, "devel") }
