"""The words of the stories: who may live in them, where, with what. Data only; stories.py picks from it, plots.py tells.

Everything here is chosen so that any pick fits any other of its table in every plot: a place is somewhere a mouse and a
girl can both walk to, a thing is something both can carry.
"""

GIRLS = """Lily Mia Anna Emma Ella Lucy Rosie Sara Zoe Nina Molly Ruby Ivy Clara Daisy Grace Alice Sophie Maya Ava Amy Kate
Hannah Julia Leah Nora Olive Penny Ellie Poppy Tess Wendy Holly Jane Sue Mary Betty Sally Lola Eva Ada Bella Chloe Elsa
Fay Greta Iris Joy Kim Lina Maria Nelly Rita Stella Tina Vera Willa Yara Zara""".split()

BOYS = """Tom Ben Max Sam Tim Jack Leo Finn Noah Oscar Peter Paul Henry Hugo Felix Adam Alex Billy Charlie Daniel David Eddie
Eric Fred George Harry Ian Jake James Joe John Kevin Liam Lucas Luke Mark Matt Mike Nick Oliver Owen Ray Rob Roy Simon
Ted Theo Toby Will Zack Andy Bobby Carl Danny Emil Frank Jimmy Jon Otto Ravi""".split()

ANIMAL_NAMES = """Pip Hop Bun Coco Dot Fluffy Ginger Honey Jojo Kiki Lulu Momo Nibbles Patch Pepper Pogo Rusty Scamper Spot
Sunny Tango Teddy Toto Whiskers Ziggy Biscuit Bramble Button Clover Cocoa Cookie Daffy Dusty Fern Flip Hazel Jumper Mopsy
Muffin Nutmeg Olly Peanut Pickle Puddle Roly Snowy Socks Taffy Tiptoe Twiggy Waddle Wiggle""".split()

# The few that half of the stories keep to (stories.py): nearly all begin with a piece of BPE that no other of them begins with.
FEW_GIRLS = "Lily Mia Lucy Zoe Nora Kate Amy Ella Poppy Holly Stella Eva Joy Ivy".split()
FEW_BOYS = "Tom Ben Sam Jack Fred Adam Luke Ted Rob Toby Danny Will Paul Ray".split()
FEW_ANIMAL_NAMES = """Pip Hop Coco Dot Fluffy Ginger Momo Patch Pepper Rusty Spot Sunny Teddy Whiskers Biscuit Snowy Socks Puddle
Nutmeg Bramble""".split()

# Parts of names that nobody has: a model that has met them copies the name it is given.
NAME_HEADS = "B Br C D F Fr G H J K L M N P R S T Tr V W Z".split()
NAME_MIDDLES = ["a", "e", "i", "o", "u", "ee", "oo", "ai"]
NAME_TAILS = "la na ra ta mi ni ri ko lo mo no do bo by dy ly ky xi va li sa den ton mer ver lin".split()

# species: where one lives. A young one is named in the same way as an old one.
HOMES = {
    "dog": ["a kennel behind the farm", "a small red house with an old man", "a barn near the village"],
    "puppy": ["a warm basket in the kitchen of a farm", "a small house at the end of the lane"],
    "cat": ["a small house by the sea", "an old barn", "a house with a green door"],
    "kitten": ["a cozy basket by the fire", "a little house near the park"],
    "rabbit": ["a cozy hole under a hill", "a hole under an old oak tree"],
    "bunny": ["a cozy hole under a hill", "a meadow full of flowers"],
    "fox": ["a den at the edge of the forest", "a den under an old oak tree"],
    "bear": ["a warm cave in the woods", "a cave near the top of a hill"],
    "mouse": ["a tiny hole behind the kitchen wall", "an old boot in the garden", "a barn full of hay"],
    "squirrel": ["a hollow tree in the park", "a tall tree in the forest"],
    "hedgehog": ["a pile of dry leaves", "a nest under the garden hedge"],
    "duck": ["a nest beside the pond", "the tall grass beside the river"],
    "frog": ["a green pond", "the tall grass beside the pond"],
    "owl": ["a hollow tree in the forest", "an old tower near the village"],
    "bird": ["a nest in a tall tree", "a nest under the roof of a school"],
    "turtle": ["a quiet pond", "a sunny garden"],
    "pig": ["a farm near the village", "a clean little barn"],
    "goat": ["a farm on a hill", "a green valley"],
    "lamb": ["a green meadow", "a farm near the river"],
    "pony": ["a stable behind a big house", "a farm near the forest"],
    "deer": ["the quiet part of the forest", "a green valley"],
    "badger": ["a deep hole under the hill", "a warm hole in the woods"],
    "hen": ["a farm near the village", "a little wooden house behind the barn"],
    "goose": ["a farm near the river", "a nest beside the lake"],
    "monkey": ["a tall tree in the jungle", "a green jungle"],
    "lion": ["a sunny land with tall grass", "a rocky valley"],
    "elephant": ["a green jungle", "a wide land with tall grass"],
}

# Those who give advice: old, and with a name of their kind only.
ELDERS = ["wise old owl", "kind old turtle", "gentle old horse", "clever old crow", "friendly old badger", "wise old goat",
          "kind old woman", "gentle old man", "friendly old farmer", "wise old grandmother", "kind old sailor"]
ELDER_PRONOUNS = {"woman": "she", "grandmother": "she", "man": "he", "farmer": "he", "sailor": "he"}

CHILD_HOMES = ["a small house near the forest", "a little house by the sea", "a yellow house at the end of the street",
               "a small village in the hills", "a cozy house with a red roof", "a big town by a river", "a farm outside the town",
               "a tall house near the park", "a white house beside a lake", "a small cottage on a hill"]

PARENTS = [("mom", "she"), ("dad", "he"), ("grandma", "she"), ("grandpa", "he"), ("mother", "she"), ("father", "he"),
           ("aunt", "she"), ("uncle", "he")]

GOOD = ["little", "kind", "brave", "clever", "happy", "curious", "cheerful", "gentle", "friendly", "quiet", "playful", "young"]
LOOKS = ["small", "brown", "white", "gray", "fluffy", "little", "young", "playful", "curious", "shy", "cheerful", "black"]

# place: the words before it when one is there; one goes "to the place".
PLACES = {
    "forest": "in", "park": "in", "garden": "in", "meadow": "in", "field": "in", "river": "by", "lake": "by", "pond": "by",
    "beach": "on", "hill": "on", "old bridge": "near", "woods": "in", "valley": "in", "market": "at", "old mill": "near",
    "playground": "at", "big oak tree": "under", "windmill": "near",
}
DEEP = ["forest", "woods", "jungle"]
WILD = ["forest", "woods", "meadow", "field", "valley", "hill", "river", "lake"]

TOYS = ["ball", "kite", "doll", "teddy bear", "toy boat", "toy train", "drum", "whistle", "hat", "scarf", "book", "bell", "toy car",
        "blanket", "flute", "basket", "lantern", "button", "ribbon", "cap"]
COLORS = ["red", "blue", "green", "yellow", "orange", "purple", "pink", "white", "golden", "silver"]
SIZES = ["big", "small", "tiny", "shiny", "lovely", "new", "old", "pretty"]
HIDING = ["under a bush", "behind a big rock", "in the tall grass", "under a pile of leaves", "behind an old log", "between two roots",
          "in a hollow tree", "beside the path", "under a bench", "in a puddle of mud"]

FOODS = ["apple", "cookie", "pear", "carrot", "sandwich", "muffin", "pie", "cake", "bun", "peach", "pancake", "slice of bread"]
MANY_FOODS = ["apples", "cookies", "pears", "carrots", "berries", "muffins", "nuts", "cakes", "buns", "cherries", "plums", "pancakes"]
CAKES = ["cookies", "muffins", "cakes", "buns", "pancakes", "pies"]
SOUPS = ["carrot soup", "hot soup", "warm milk", "mushroom soup", "tea with honey", "pumpkin soup"]

# what grows: seed, what the plant becomes, what it is good for
PLANTS = [
    ("sunflower seed", "sunflower", "The flower was taller than {the_hero}, and its face turned to the sun."),
    ("pumpkin seed", "pumpkin", "{Mom} cut the pumpkin and made a sweet pie for everyone."),
    ("bean", "bean plant", "The plant climbed up the wall and was full of long green beans."),
    ("apple seed", "apple tree", "Many years later it was full of sweet red apples."),
    ("strawberry seed", "strawberry plant", "Soon there were red strawberries for everyone."),
    ("carrot seed", "carrot", "It was the biggest carrot that anyone had ever seen."),
    ("tomato seed", "tomato plant", "The tomatoes were round and red and tasted like summer."),
    ("rose seed", "rose bush", "The roses were pink, and the whole garden smelled sweet."),
]

# skill: [wants to ..., tries to ..., noun of doing it]
SKILLS = [
    ("swim", "went into the water, but {he} only splashed and swallowed some of it", "Move your legs slowly and breathe", "swam across the pond"),
    ("climb the tall tree", "held on to a branch, but {he} slipped and slid down again", "Look for one good branch at a time", "climbed to the very top and saw the whole valley"),
    ("jump over the stream", "ran and jumped, but {he} landed in the water with a splash", "Run fast and look at the other side", "jumped over the stream and landed on dry grass"),
    ("whistle", "blew and blew, but only air came out", "Make your mouth round and blow softly", "whistled a whole song"),
    ("dance", "turned around and around, but {he} fell over {his} own feet", "Listen to the music first", "danced from the beginning of the song to the end"),
    ("sing", "opened {his} mouth, but only a squeak came out", "Sing softly first, and then a little louder", "sang so sweetly that everyone stopped to listen"),
    ("fly a kite", "ran with the kite, but it fell into the grass", "Wait for the wind, and then let go", "made the kite fly higher than the trees"),
    ("paint", "dipped the brush in the paint, but the picture was only a big brown spot", "Use one color at a time", "painted a picture of the sea with a yellow sun above it"),
    ("skate on the ice", "stepped on the ice, but {his} feet went away and {he} sat down with a bump", "Bend your knees and take small steps", "skated all around the lake"),
    ("play the drum", "hit the drum, but it was only noise", "Count to four, again and again", "played so well that everyone began to clap"),
    ("tell stories", "began a story, but {he} forgot how it went on", "Close your eyes and look at the story first", "told a story that made everyone laugh"),
    ("bake bread", "put the bread in the oven, but it came out black and hard", "Wait, and watch, and do not hurry", "baked a loaf of bread that was soft and brown"),
]

GAMES = ["hide and seek", "catch", "tag", "ball", "pirates", "follow the leader"]
HOBBIES = ["play in the garden", "run and jump", "look at the stars", "sing songs", "paint pictures", "play with {his} friends",
           "collect pretty stones", "listen to stories", "pick flowers", "watch the clouds", "climb trees", "explore", "help others",
           "splash in puddles", "tell jokes", "dance in the rain", "chase butterflies", "look for treasure"]
WISHES = ["see the sea", "have a real friend", "go on an adventure", "find a treasure", "touch a cloud", "be big and strong",
          "see what was behind the hill", "make everyone smile"]

GOOD_WEATHER = [("sunny", "The sun was shining, and the birds were singing"), ("warm", "A soft wind blew, and the sky was blue"),
                ("bright", "The sky was clear, and the grass smelled sweet"), ("lovely", "White clouds moved slowly across the sky"),
                ("spring", "The flowers were open, and the bees were busy"), ("cool", "The leaves were red and yellow, and they danced in the wind"),
                ("quiet", "The air was still, and only the birds could be heard"), ("summer", "The sun was high, and the air was warm")]
