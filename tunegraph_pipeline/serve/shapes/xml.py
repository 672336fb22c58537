"""XML answers of the shapes that have them.

Here: writing an element as a response, without the characters that XML cannot have. Not here: which elements
(`lastfm`, `subsonic`). Nothing of a client's is ever read as XML.
"""

import re
from xml.etree import ElementTree as Xml

from starlette.responses import Response

_NOT_OF_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_response(root: Xml.Element, status: int = 200) -> Response:
    """The response with this document."""
    for element in root.iter():
        element.text = None if element.text is None else _NOT_OF_XML.sub("", element.text)
        for name, value in element.attrib.items():
            element.attrib[name] = _NOT_OF_XML.sub("", value)
    content = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(content, status, media_type="text/xml; charset=utf-8")
