package demo

import "fmt"

// Discovery is the part of Prometheus's configuration that makes it scrape the addresses that the demo writes into the
// file targets.
func Discovery(targets string) string {
	return fmt.Sprintf("- job_name: demo\n  file_sd_configs:\n  - files: [%q]\n    refresh_interval: 1s\n", targets)
}
