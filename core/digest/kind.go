package digest

import "fmt"

// Kind says what a digest names. The list is closed: a new kind is a new
// constant here with a name below, covered by the golden vectors.
type Kind uint8

// The kinds, with what their bytes are.
const (
	Sample         Kind = iota + 1 // the DSSE PAE of a sample header: what the meter signed
	RawVector                      // the encoded raw vector, as stored
	Evidence                       // an evidence object (an image), encrypted as it is kept
	ClaimInput                     // the exact input bytes given to a module
	Statement                      // the DSSE PAE of an administrative statement
	Record                         // the exact bytes of a leaf, or of an event report
	BlockHeader                    // the exact bytes of a block-header record
	StateWrites                    // the state writes of a block, in key order
	AdminChain                     // running digest over administrative records
	TrustBundle                    // the canonical text of a trust bundle
	PublicKey                      // a tagged public key (package signature)
	SignatureCheck                 // key of the cache of signature checks
	Entry                          // an entry of the ordering log
	Canary                         // what a notified body commits to

	kindEnd
)

var names = [kindEnd]string{
	Sample:         "sample",
	RawVector:      "rawvector",
	Evidence:       "evidence",
	ClaimInput:     "claiminput",
	Statement:      "statement",
	Record:         "record",
	BlockHeader:    "blockheader",
	StateWrites:    "statewrites",
	AdminChain:     "adminchain",
	TrustBundle:    "trustbundle",
	PublicKey:      "publickey",
	SignatureCheck: "signaturecheck",
	Entry:          "entry",
	Canary:         "canary",
}

// The last byte of a prefix says how the bytes after it are laid out.
const (
	formBytes = iota
	formFields
	formEnd
)

// prefixes is written once, before any use.
var prefixes = func() (p [kindEnd][formEnd][]byte) {
	for k := Kind(1); k < kindEnd; k++ {
		for form := range formEnd {
			p[k][form] = append([]byte("lacre/"+names[k]+"/v1"), byte(form))
		}
	}
	return p
}()

func (k Kind) prefix(form int) []byte {
	if k == 0 || k >= kindEnd {
		panic(fmt.Sprintf("digest: kind %d is not in the list 1..%d", k, kindEnd-1))
	}
	return prefixes[k][form]
}

// String is the kind's name as it stands in the prefix.
func (k Kind) String() string {
	if k == 0 || k >= kindEnd {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return names[k]
}

// Kinds lists every kind, in order.
func Kinds() []Kind {
	all := make([]Kind, 0, kindEnd-1)
	for k := Kind(1); k < kindEnd; k++ {
		all = append(all, k)
	}
	return all
}
