"""The team's pages in a browser: what is known, what fails, who pays, what to do next.

Each page is a module with a router and templates of its own; all of them read the catalog as the JSON API does, and a
form calls the same function as a route of the API. May import all of the service but `app.py`, which includes
`shown.ROUTERS`, and `kept.py`.
"""
