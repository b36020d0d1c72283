// Package alerts tests the alerts in packaging/alerts.yml: that Prometheus accepts them, that they use metrics which
// governor has, and that what they say is what govtop and governor explain say.
package alerts
