package receipt

import (
	"strconv"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Summary is a measurement in words for people and programs. It describes and
// judges nothing: the verdict is the Report's.
type Summary struct {
	Meter       string     `json:"meter"`
	Counter     uint64     `json:"counter"`
	CapturedAt  string     `json:"capturedAt"` // RFC 3339, UTC, by the meter's clock
	ClockSync   string     `json:"clockSync"`  // synchronised, holdover or not synchronised
	StatusFlags uint32     `json:"statusFlags"`
	Site        *Site      `json:"site,omitempty"` // with a verified registration
	Code        uint32     `json:"code"`
	CodeName    string     `json:"codeName"`
	Measured    []Value    `json:"measured"`   // measured values; after a refusal diagnostics only
	Refused     bool       `json:"refused"`    // the module gave no measured value
	Considered  Considered `json:"considered"` // no measured value is shown without it
	Disposition string     `json:"disposition"`
	Standing    *Standing  `json:"standing,omitempty"` // of the meter, with a verified history
	Ledger      Position   `json:"ledger"`
	Endorsers   []Endorser `json:"endorsers,omitempty"` // with verified endorsements
	Digests     Digests    `json:"digests"`
	Proves      []string   `json:"proves"`
	ProvesNot   []string   `json:"provesNot"`
}

// Site is where the meter stands, by its parameters in force at the capture.
type Site struct {
	Name         string `json:"name"`
	Latitude     string `json:"latitude"`  // decimal degrees north
	Longitude    string `json:"longitude"` // decimal degrees east
	Lane         uint32 `json:"lane"`
	Seal         string `json:"seal"`
	Model        string `json:"model"`
	TypeApproval string `json:"typeApproval"` // the model's certificate
}

// Value is one value of a result: Number times 10^Scale Unit. Name and unit are
// empty without a verified approval.
type Value struct {
	Name   string `json:"name,omitempty"`
	Unit   string `json:"unit,omitempty"`
	Scale  int    `json:"scale"`
	Number int64  `json:"number"`
	Text   string `json:"text"` // the decimal number, exactly, without unit
}

// Position is where the measurement stands on the ledger.
type Position struct {
	Origin    string        `json:"origin"`
	Index     uint64        `json:"index"`
	TreeSize  uint64        `json:"treeSize"`
	Root      digest.Digest `json:"root"`
	Cosigners []string      `json:"cosigners"`
	Cosigned  string        `json:"cosigned"` // lower median of the cosignatures' times, RFC 3339
}

// Endorser is who recomputed and signed the result.
type Endorser struct {
	Node         string `json:"node"`
	Organisation string `json:"organisation"`
}

// Evidence is what the meter took beside the measurement, kept encrypted outside
// the ledger.
type Evidence struct {
	Digest    digest.Digest `json:"digest"` // of the encrypted bytes
	Size      uint64        `json:"size"`   // encrypted bytes
	MediaType string        `json:"mediaType"`
}

// Digests name all that the measurement rests on.
type Digests struct {
	Network        digest.Digest `json:"network"`
	Sample         digest.Digest `json:"sample"`
	RawVector      digest.Digest `json:"rawVector"`
	Evidence       []Evidence    `json:"evidence,omitempty"`
	Module         digest.Digest `json:"module"` // plain SHA-256
	Registration   digest.Digest `json:"registration"`
	Approval       digest.Digest `json:"approval"`
	Config         digest.Digest `json:"config"`
	EndorsementSet digest.Digest `json:"endorsementSet"`
}

// Describe says what a receipt holds; contents, from VerifyBundle, add what
// only a bundle shows, and are nil without one.
func Describe(r *Receipt, contents *Contents) Summary {
	if contents == nil {
		contents = &Contents{}
	}
	s, checkpoint := r.Sample, r.Proof.Certificate.Checkpoint
	summary := Summary{
		Meter: s.MeterID, Counter: s.Counter, CapturedAt: timeText(s.CapturedAtUnixNano),
		ClockSync: words(s.ClockSync.String(), "CLOCK_SYNC_"), StatusFlags: s.StatusFlags,
		Code: r.Result.Code, CodeName: codeName(r.Result.Code, contents.Approval), Refused: r.Result.Code != abi.CodeValid,
		Measured: values(r.Result, contents.Approval),
		Ledger: Position{
			Origin: checkpoint.Origin, Index: r.Proof.Index, TreeSize: checkpoint.Size, Root: checkpoint.Root,
			Cosigned: timeText(int64(min(r.Proof.Certificate.MedianTime(), 1<<33)) * second),
		},
		Digests: Digests{
			Network: s.NetworkID, Sample: s.Digest, RawVector: s.RawDigest,
			Module: r.Claim.Algorithm, Registration: r.Claim.Registration, Approval: r.Approval,
			Config: r.Config, EndorsementSet: r.EndorsementSet,
		},
		Disposition: "on time", Considered: considered(r, contents),
		Proves: []string{
			"Once verified: this record stands at this place of the ledger, unaltered, and a quorum of the replicas certified it.",
		},
		ProvesNot: []string{
			"The sensor's truth: that the raw signal came from the vehicle or load in question.",
			"The clock's truth: the capture time is the meter's word, bounded by the blocks around it.",
			"Freshness: what the ledger recorded after this checkpoint, such as a broken seal or a withdrawal.",
			"Conformity: no legal requirement is claimed to be met; that is for the competent authority to judge.",
		},
	}
	for _, e := range s.Evidence {
		summary.Digests.Evidence = append(summary.Digests.Evidence, Evidence(e))
	}
	if r.Message.GetDisposition() == recordv1.Disposition_DISPOSITION_LATE {
		summary.Disposition = "LATE: recorded beyond the lateness bound, no legal result"
	}
	for _, c := range r.Proof.Certificate.Cosignatures {
		summary.Ledger.Cosigners = append(summary.Ledger.Cosigners, shortName(checkpoint.Origin, c.Name))
	}
	for _, e := range contents.Endorsers {
		summary.Endorsers = append(summary.Endorsers, Endorser{Node: e.GetNodeId(), Organisation: e.GetOrganisation()})
	}
	if len(contents.Endorsers) > 0 {
		summary.Proves = append(summary.Proves, "Once the bundle is verified: the endorsers named here signed exactly this result of the approved module.")
	}
	if reg, p := contents.Registration, contents.Parameters; reg != nil && p != nil {
		summary.Site = &Site{
			Name: p.Site.GetName(), Lane: p.Site.GetLane(), Seal: p.Seal, Model: reg.GetModel(), TypeApproval: reg.GetTypeApproval(),
			Latitude:  decimal(int64(p.Site.GetLatitudeE7()), -7),
			Longitude: decimal(int64(p.Site.GetLongitudeE7()), -7),
		}
	}
	summary.Standing = standing(r, contents)
	return summary
}

func values(result abi.Output, a *approval.Approval) []Value {
	list := make([]Value, len(result.Values))
	for i, number := range result.Values {
		v := Value{Number: number}
		if a != nil && i < len(a.Schema.Values) {
			f := a.Schema.Values[i]
			v.Name, v.Unit, v.Scale = f.Name, f.Unit, f.Scale
		}
		v.Text = decimal(number, v.Scale)
		list[i] = v
	}
	return list
}

// codeName is the code's name by the approved schema.
func codeName(code uint32, a *approval.Approval) string {
	switch code {
	case abi.CodeValid:
		return "VALID"
	case abi.CodeExecutionFailed:
		return "EXECUTION_FAILED"
	}
	if a != nil {
		for _, refusal := range a.Schema.Refusals {
			if refusal.Code == code {
				return refusal.Name
			}
		}
	}
	return "REFUSED_" + strconv.FormatUint(uint64(code), 10)
}

// decimal is number times 10^scale, exactly.
func decimal(number int64, scale int) string {
	digits := strconv.FormatInt(number, 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if scale >= 0 {
		if number != 0 {
			digits += strings.Repeat("0", scale)
		}
		return sign + digits
	}
	if missing := 1 - scale - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) + scale
	return sign + digits[:point] + "." + digits[point:]
}

// words turns an enum's name into words: CLOCK_SYNC_HOLDOVER into "holdover".
func words(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", " ")
}

func timeText(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }
