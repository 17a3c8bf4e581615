"""A fleet in virtual time: the router and the mocker's scheduler as they are, an hour of many workers in minutes."""
