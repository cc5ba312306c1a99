"""The dispatcher: takes jobs from LiveKit, places them on session hosts, keeps them alive."""
