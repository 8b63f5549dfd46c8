package meter

// AlarmKind says what an operator should look at.
type AlarmKind string

// The kinds of alarm.
const (
	AlarmOutboxFull AlarmKind = "OUTBOX_FULL" // a capture was refused for want of room
	AlarmRefused    AlarmKind = "REFUSED"     // a sample went to the refused store
	AlarmBadReceipt AlarmKind = "BAD_RECEIPT" // a gateway lies, or the trust bundle is out of date
	AlarmBadHead    AlarmKind = "BAD_HEAD"    // the same, of the newest block
	AlarmDamaged    AlarmKind = "DAMAGED"     // a stored sample was altered and set aside
	AlarmHeartbeat  AlarmKind = "HEARTBEAT"   // the signer made no heartbeat
	AlarmStorage    AlarmKind = "STORAGE"     // a write failed; it is tried again
)

// Alarm is one event for the operator.
type Alarm struct {
	Kind     AlarmKind
	Counter  uint64 // of the sample; 0 when it is about none
	Endpoint string // of the gateway; "" when it is about none
	Err      error  // both sides of what did not match
}

func (m *Meter) alarm(a Alarm) {
	if m.config.OnAlarm != nil {
		m.config.OnAlarm(a)
	}
}
