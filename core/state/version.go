package state

import (
	"github.com/lacre-metrology/lacre/core/reason"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// CheckVersion says whether this code can go on after the view's newest block:
// an error of reason.UnsupportedVersion when the configuration in force names a
// record version that it does not know. Whoever opens a ledger asks first.
func CheckVersion(view View) error {
	config, err := GetConfig(view)
	if err != nil || config == nil {
		return err
	}
	return checkVersion(config.Message)
}

func checkVersion(m *recordv1.NetworkConfig) error {
	if needs := m.GetRecordVersion(); needs != RecordVersion {
		return reason.New(reason.UnsupportedVersion, "this network needs record version %d; this binary knows %d", needs, RecordVersion)
	}
	return nil
}
