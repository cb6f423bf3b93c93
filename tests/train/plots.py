"""How stories begin, what happens in them, what they teach. The signs in these texts are those of stories.py.

A plot is told after an opening, which has named the hero and nobody else; every other being is introduced by its plot
({a_friend}, {a_elder}) before it is called by name. {one_day} is "One day," or, where the opening has told the day, a
word that goes on from there. In a sentence with two beings of perhaps the same pronoun, names stand.
"""
from collections import namedtuple

Opening = namedtuple("Opening", "text dated")  # dated: it tells of one day already
Plot = namedtuple("Plot", "who text morals dated", defaults=[True])  # who: child, any; dated: may follow such an opening

ONE_DAY = ["One day,", "One day,", "One morning,", "One {weather} day,", "One afternoon,", "One {weather} morning,"]
THEN = ["Soon,", "After a while,", "A little later,", "Then,"]

ONCE = ["Once upon a time,", "Once upon a time", "Once upon a time,", "Long ago,", "Once,"]
TRAITS = """ {He} [loved|liked] to {hobby}.| Every day {he} [loved|liked] to {hobby}.| {He} was always [happy|curious|kind|busy].| {He} had one big wish: {he} wanted to {wish}.| """

NAMED = [
    Opening(f"[{'|'.join(ONCE)}] there was {{a_hero}}. {{He}} lived {{home}}.[{TRAITS}]", False),
    Opening(f"[{'|'.join(ONCE)}] there was {{a_hero}} who [loved|liked] to {{hobby}}.[ {{He}} lived {{home}}.|]", False),
    Opening(f"[{'|'.join(ONCE)}] {{home}}, there lived {{a_hero}}.[{TRAITS}]", False),
    Opening(f"There [once was|was once|was] {{a_hero}}. {{He}} lived {{home}}.[{TRAITS}]", False),
    Opening("One {weather} [day|morning], {a_hero} went for a walk. {Sky}.", True),
    Opening("One day, {a_hero} was [playing|walking|sitting] {at}. {Sky}.", True),
    Opening("One day, {a_hero} woke up early. {Sky}. [\"What a {weather} day!\" said {hero}.|{Hero} was [very|so] happy.|]", True),
    Opening("It was a {weather} [day|morning]. {Sky}. {A_hero} was [playing|walking|sitting] {at}.", True),
    Opening("{Hero} was a {good} {kind} who lived {home}.[" + TRAITS + "]", False),
    Opening("{Hero} [loved|liked] to {hobby}. {He} was a {good} {kind}, and {he} lived {home}.", False),
    Opening("{Home}, there lived {a_hero}.[" + TRAITS + "]", False),
    Opening("{A_hero} lived {home}.[" + TRAITS + "]", False),
]
UNNAMED = [
    Opening(f"[{'|'.join(ONCE)}] there was {{a_hero}}. {{He}} lived {{home}}.[{TRAITS}]", False),
    Opening(f"[{'|'.join(ONCE)}] {{a_hero}} lived {{home}}.[{TRAITS}]", False),
    Opening("{The_hero} lived {home}.[" + TRAITS + "]", False),
    Opening("{The_hero} was [happy|small and brave|hungry for adventure|very curious]. {He} lived {home}.[" + TRAITS + "]", False),
    Opening("{The_hero} [loved|liked] to {hobby}. {He} lived {home}.", False),
    Opening("One {weather} [day|morning], {a_hero} went for a walk. {Sky}.", True),
    Opening("One day, {a_hero} was [playing|walking|sitting] {at}. {Sky}.", True),
    Opening("It was a {weather} [day|morning]. {Sky}. {The_hero} was [playing|walking|sitting] {at}.", True),
    Opening("There [once was|was once|was] {a_hero} who lived {home}.[" + TRAITS + "]", False),
    Opening("{Home}, there lived {a_hero}.[" + TRAITS + "]", False),
]
ANIMAL = [
    Opening("{Hero} the {kind} lived {home}.[" + TRAITS + "]", False),
    Opening("{Hero} was a {look} {kind}. {He} lived {home}.[" + TRAITS + "]", False),
]
CHILD = [
    Opening("{Hero} and {his} {parent} lived {home}.[" + TRAITS.replace("{He}", "{Hero}") + "]", False),
    Opening("{Hero} was {age} years old. {He} lived with {his} {parent} {home}.[" + TRAITS + "]", False),
    Opening("{Hero} was a {good} {kind}. {He} lived with {his} {parent} {home}.[" + TRAITS + "]", False),
    Opening("{Hero} went to {the_place} with {mom}. {Sky}.", True),
]


def openings(child, named):
    return UNNAMED if not named else NAMED + (CHILD if child else ANIMAL)


END = ["And they lived happily ever after.", "The end.", "", "", ""]
FRIENDS = ["From that day on, {hero} and {friend} were best friends.", "After that, {hero} and {friend} played together every day.",
           "{Hero} and {friend} have been friends ever since.", "That evening {hero} fell asleep with a smile, because {he} had a new friend."]

LOST = Plot("any", """
{Hero} had {a_toy}. [It was {his} favorite thing in the whole world.|{Mom} had given it to {him}.|{He} took it with {him} wherever {he} went.]
{one_day} {hero} [took the {toy} to the {place} and played there for a long time|played with the {toy} {at} until the sun was low].
But when {he} wanted to go home, the {toy} was gone! ["Oh no! Where is my {toy}?" cried {hero}.|{Hero} felt very sad, and a tear ran down {his} face.|{His} heart beat fast. "I must find my {toy}," {he} said.]
{He} looked [behind the trees|under the stones|here and there], but {he} could not find it.
Then {he} met {a_friend}. "[Why are you so sad|Why are you crying|What is the matter]?" asked {friend}. "I have lost my {toy}," said {hero}.
"[Do not worry|Do not cry|Don't be sad]," said {friend}. "[We will look for it together|Four eyes see more than two|I will help you to find it]."
[They looked and looked.|They walked back the way that {hero} had come.|They looked in every corner.]
[At last|Suddenly|After a long time], {friend} called, "[Look|Come here|I see something]!" There was the {toy}, {spot}!
{Hero} [hugged {friend}|jumped for joy|laughed and danced]. "Thank you, {fcall}!" {he} said. "[You are a true friend|I could not have found it without you|You are so kind]."
[They played with the {toy} together until it was dark.|Then {hero} let {friend} play with the {toy}, too.|{Hero} held the {toy} tight all the way home.]""",
            FRIENDS + ["{Hero} learned to take good care of {his} things.", "And {hero} never forgot the {toy} again."])

SHARE = Plot("any", """
{one_day} {mom} gave {hero} [a basket of|a bag of|some] {foods}. ["These are for you," said {mom}.|They smelled so good!|"Do not eat them all at once," said {mom}.]
{Hero} [sat down {at} to eat them|took them to the {place}|carried them to the {place}]. There {he} saw {a_friend}. {Friend} looked [thin and hungry|tired and sad|cold and hungry].
"[May I have one, please|Could you give me some|I have not eaten all day. May I have one]?" asked {friend}.
[{Hero} looked at the {foods}. {He} wanted to keep them all, but then {he} thought about it.|At first {hero} said, "No, they are mine!" But then {he} saw a tear in the eye of {friend}, and {he} felt bad.|{Hero} did not have to think for long.]
"[Here you are|Come, sit beside me|There is enough for two]," said {hero}, and {he} gave {friend} half of the {foods}. {Friend} [ate them all and smiled|was so happy|ate, and ate, and felt strong again]. "[Thank you|Thank you so much|That was very kind]!" said {friend}.
[The next day|A few days later|One week later], {hero} [lost {his} way in the {wild}|fell into a deep hole|hurt {his} foot {in_wild}]. {He} called for help, but nobody came. Then {hero} heard a voice. It was {friend}!
"[You helped me, and now I will help you|I heard you call|Do not be afraid, I am here]," said {friend}, and {fhe} [helped {hero} all the way home|brought {hero} safely home|took {hero} back to {his} {parent}].""",
             FRIENDS + ["{Hero} was glad that {he} had shared.", "{Hero} learned that who shares is never alone.", "When you share, everyone has more."])

STORM = Plot("any", """
{one_day} {hero} went to play with {his} friend, {a_friend}. They played {game} {in_wild}. [They laughed so much that they forgot the time.|They had so much fun.|First {hero} won, and then {friend} won.]
Suddenly, the sky turned [dark|gray|black]. The wind began to blow, and big drops of rain fell. [Boom! went the thunder.|There was a loud crash of thunder.|A flash of lightning lit up the sky.]
"I am scared!" said {friend}. {Hero} was scared, too, but {he} [wanted to be brave|took a deep breath|did not show it]. "[Hold on to me|Come with me|We must find a dry place]," said {hero}. "I [know|can see] [a little cave|an old hut|a hollow tree] over there."
They ran as fast as they could, and soon they were [safe and dry|out of the rain|warm and dry]. They sat close together and [sang a song|told each other stories|counted the time between the flashes]. [After that the thunder did not sound so loud.|Little by little, {friend} was not afraid any more.|They almost forgot the storm outside.]
[At last|After a while|In the end], the rain stopped, and the sun came out. "Look!" cried {friend}. A [big|bright|beautiful] rainbow stood over the {wild}. [It was the most beautiful thing that they had ever seen.|They looked at all its colors and smiled.]
["Thank you for being so brave," said {friend}.|"I was not afraid, because you were with me," said {friend}.|"You are the bravest {kind} that I know," said {friend}.] [Then they splashed through all the puddles on the way home.|Then they went home, where {mom} had {soup} for them.]""",
             ["{Hero} learned that even the brave are afraid sometimes.", "After every storm the sun comes back.",
              "A storm is not so bad when a friend is near.", "Together they were not afraid of anything.", ""])

RESCUE = Plot("any", """
{one_day} {hero} was walking {in_wild} when {he} heard a small voice. "Help! Help!" it cried. {Hero} [ran to see what it was|looked around|listened carefully].
It was {a_friend}! {Fhe} was stuck [in the mud|between two rocks|in a thick bush|in an old net] and could not get out. "Please help me!" said {friend}.
{Hero} pulled and pulled, but {he} was not strong enough. "[Wait here|Don't be afraid|I will come back]," said {hero}. "I will [get help|find someone strong]."
{He} ran [down the path|over the hill|as fast as {he} could] until {he} met {a_elder}. "Please come quickly!" said {hero}. "Someone is stuck {in_wild}!" [They took a long rope with them.|They took a strong stick with them.|They hurried back together.]
"One, two, three, pull!" said {elder}. They pulled with all their might. Pop! {Friend} was free!
["Thank you! Thank you!" said {friend}.|{Friend} was so happy that {fhe} danced in a circle.|"You saved me," said {friend}. "How can I ever thank you?"] ["I am so glad that you are free," said {hero}.|"Anyone would have done that," said {hero}.|"You can be my friend," said {hero}.]
[Then they all went to eat {soup}.|Then {hero} and {friend} played {game} until the evening.|They walked home together, and {hero} told {mom} all about it.]""",
              FRIENDS + ["{Hero} learned that it is good to ask for help.", "Nobody is too small to help.", "What one cannot do alone, friends can do together."])

LEARN = Plot("any", """
{Hero} wanted to learn to {skill}. [All {his} friends could do it, but {he} could not.|{He} dreamed of it every night.|{He} had seen others do it, and it looked so easy.]
{one_day} {he} [{try_skill}|tried it for the first time. {He} {try_skill}]. [Some of the others laughed.|"That was not very good," {he} said.|{Hero} felt sad.] "[I will never learn it|It is too hard for me|I give up]," said {hero}.
{A_elder} had seen it all. "Do not give up," said {elder}. "[I could not do it at first|Nobody can do it the first time|Everyone has to begin somewhere]. {Advice}."
So {hero} tried again[ and again|]. [Each day it went a little better.|The second time was better than the first.|{He} fell, and got up, and tried once more.] {He} [practiced|worked] every day[, in the sun and in the rain|, in the morning and in the evening|].
[Then, one fine day|At last|After many days], it happened. {Hero} {did_skill}! "[I did it|I can do it|Look at me]!" {he} shouted. [Everyone clapped and cheered.|{Elder} smiled. "I knew it," {ehe} said.|{Mom} was very proud of {him}.]""",
             ["{Hero} learned that you must never give up.", "If you try and try again, you can learn anything.", "From that day on, {hero} was not afraid of hard things.",
              "And the next day {hero} helped {a_friend} to learn it, too.", "That night {hero} was tired, but very proud."])

TRUTH = Plot("child", """
{Mom} had a [beautiful|pretty|blue|very old] [vase|cup|bowl|plate|lamp]=pot. "[Please be careful with it|Please do not touch it|It is very dear to me]," {mhe} always said.
{one_day} {hero} was [playing ball|running and jumping|dancing] in the house. Crash! The {pot} fell on the floor and broke. {Hero} [stood very still|was shocked|felt {his} heart beat fast]. "[Oh no|Oh dear]! What have I done?" {he} said.
{He} [hid the pieces under {his} bed|swept the pieces behind the door|put the pieces in a box and hid it]. [But {he} did not feel good.|But {his} tummy felt funny.|But {he} could think of nothing else.] At dinner {he} could not eat.
"What is wrong, {hero}?" asked {mom}. {Hero} [began to cry|looked at the floor|took a deep breath]. "[I broke your {pot}|It was me. I broke the {pot}]," {he} said. "I am so sorry."
{Mom} was [quiet for a moment|sad at first]. Then {mhe} [hugged {him}|took {his} hand]. "[Thank you for telling me the truth|I am glad that you told me|A {pot} can be mended, but the truth is more important]," {mhe} said.
They got some glue and put the {pot} together again, piece by piece. [It was not as it was before, but {mom} liked it even more.|You could see the cracks, but it was still pretty.|Then they put a flower in the window beside it.]""",
             ["{Hero} felt much better. {He} learned that it is best to tell the truth.", "From then on {hero} always told the truth.",
              "{Hero} felt as light as a feather.", "And {hero} never played like that in the house again."])

NEWCOMER = Plot("any", """
{one_day} {hero} saw someone new {at}. It was {a_friend}. {Friend} sat all alone and watched the others play. [{Fhe} looked sad.|Nobody talked to {fhim}.|{Fhe} was too shy to say a word.]
"[Why do you not play with us|Why are you alone|What is your name]?" asked {hero}. "[I am new here|I have just moved here|I come from far away]," said {friend} [softly|in a small voice]. "[I do not know anyone|I have no friends here|I do not know how to play your games]."
{Hero} [thought for a moment|smiled|sat down beside {friend}]. "[You know me now|I can be your friend|Come, I will show you]," {he} said. "Do you like to play {game}?" {Friend} [nodded|smiled a little|looked up]. "I have never played it," {fhe} said. "It is easy!" said {hero}.
So they played {game} together. [At first {friend} was slow, but soon {fhe} was the best of all.|{Friend} laughed for the first time that day.|They ran and laughed until they were tired.] [Soon the others came and played, too.|Then they shared some {foods} under a tree.|Then {hero} showed {friend} all the best places {in_wild}.]
["This was the best day," said {friend}.|"I am so glad that you talked to me," said {friend}.|When it was time to go home, {friend} was not sad any more.]""",
                FRIENDS + ["{Hero} learned that one kind word can make a friend.", "Be kind to those who are new."])

GIFT = Plot("any", """
It was {his} {parent}'s birthday, and {hero} wanted to give {mhim} something [special|nice|beautiful]. But {he} had no [money|gift]. ["What can I do?" {he} thought.|{He} thought and thought.|{He} looked everywhere, but {he} found nothing.]
So {he} went to {a_elder}. "What would make my {parent} happy?" asked {hero}. {Elder} smiled. "The best gift is one that you make yourself," {ehe} said.
So {hero} went to the {wild}. {He} [picked flowers in all colors|found pretty stones and round shells|gathered leaves that were red and gold]. On the way {he} met {a_friend}, who helped {him} to [carry them|choose the best ones|look for more]. Together they made [a crown|a long chain|a picture|a little garden in a box] out of them. [It took all afternoon.|It was a lot of work, but it was fun.|{Hero} worked slowly and carefully.]
In the evening {hero} ran home. "Happy birthday!" {he} said. {Mom} opened {mhis} eyes wide. "[Did you make this for me|Is that for me]? It is the most beautiful gift in the world," {mhe} said, and {mhe} gave {him} a big hug. [Then they all ate cake and sang songs.|They sat together and ate a big cake.|{Hero} was so happy that {he} danced around the room.]""",
            ["{Hero} learned that a gift from the heart is the best of all.", "It was the best birthday ever.", "A gift does not have to cost anything.", ""])

GARDEN = Plot("any", """
{one_day} {hero} found a tiny {seed}. "What is this?" {he} asked {mom}. "It is a {seed}," said {mom}. "If you [plant it and give it water|take good care of it], it will grow."
So {hero} dug a little hole in the ground and put the {seed} in it. [Every day {he} gave it water.|{He} gave it water every morning.|{He} sat beside it and sang to it.] But [nothing happened|there was nothing to see]. [One day went by, and then another.|A whole week went by.|{Hero} looked at the ground each day.] "[It will never grow,|Why does it not grow?|I am tired of waiting,]" said {hero}.
"[You must be patient|Good things take time|Wait and see]," said {mom}. "[A seed sleeps before it wakes up|Under the ground it is working hard]."
So {hero} waited. Then, one {weather} morning, {he} saw a small green [leaf|tip|shoot]. "It is growing!" {he} shouted. [It grew and grew.|Each day it was a little taller.|The sun and the rain helped it to grow.] After [some weeks|a long time|the summer rain], there was a [big|strong|fine] {plant}. {harvest}
{Hero} showed it to {his} friend, {a_friend}. "[You grew that|Did you do that all by yourself]?" asked {friend}. "[I only helped a little|I gave it water, and I waited|The sun helped me]," said {hero}[ and smiled| with a laugh|].""",
              ["{Hero} learned that good things take time.", "The next spring, {hero} and {friend} planted many more.", "Who can wait will be happy in the end.",
               "And {hero} kept a new {seed} for the next year."])

NIGHT = Plot("any", """
{one_night} {hero} could not sleep. [It was very dark, and the wind blew around the house.|The moon was behind the clouds, and it was very dark.|All the others were asleep.] Then {he} heard a sound. [Tap, tap, tap.|Scratch, scratch, scratch.|Whooo, whooo.] "[What is that|Who is there]?" {he} whispered. But nobody answered.
{Hero} [hid under the blanket|held {his} breath|was very scared]. [Was it a monster?|Perhaps it was a ghost!|{He} thought of big teeth and yellow eyes.] There it was again! {He} [called for {mom}|ran to {mom}]. "There is something outside!" {he} said. "[Let us go and see|We will look together|Take my hand]," said {mom}.
They took a [small light|lantern|candle] and went to the door. Slowly, slowly, they opened it. And what did they see? It was only [{a_friend}, who was cold and wanted to come in. "I am sorry," said {friend}. "I did not want to scare you. I have lost my way."|{a_friend}, who had come to find a dry place. "Please, may I stay here tonight?" asked {friend}.]
{Hero} laughed. "I thought that you were a monster!" {he} said. [They gave {friend} some {soup} and a warm blanket.|{Friend} was allowed to sleep beside the fire.|They all had some {soup} together.] Then {hero} went back to bed. [The wind still blew, but now it sounded like a song.|The dark was not so dark any more.|{He} was not afraid any more, and {he} fell asleep at once.]""",
             ["{Hero} learned that most things are not so scary when you look at them.", "In the morning {hero} and {friend} were already friends.", "And from then on {hero} was not afraid of the dark.",
              "Things look bigger in the dark than they are."])

ASTRAY = Plot("any", """
{one_day} {hero} saw a [blue|yellow|beautiful] butterfly. "[How pretty you are|Wait for me]!" {he} called, and {he} ran after it. It flew over the [grass|fence|stream] and into the {deep}. {Hero} ran and ran, and did not look at the way.
Then the butterfly was gone. {Hero} looked around. [All the trees looked the same.|{He} did not know this place.|{He} could not see {his} home any more.] "[Where am I|How do I get home]?" {he} said. {He} was lost! [It was getting dark.|The sun was going down.] {Hero} sat down and began to cry.
"Who is crying there?" asked a voice. It was {a_elder}. "[I am lost|I cannot find my way home]," said {hero}. "I ran after a butterfly, and now I am all alone." "[Do not cry|Do not be afraid]," said {elder}. "[Follow the stream, and it will lead you home|Look for the brightest star and walk toward it|Listen! Do you hear the bells? Walk toward them|Come, I will show you the way]."
{Hero} [dried {his} tears|thanked {elder}|stood up]. {He} [walked and walked|did as {he} was told|walked for a long time] until {he} saw a light. It was {his} home! {Mom} [ran to meet {him}|was standing at the door|had looked for {him} everywhere]. "[There you are|I was so worried]!" {mhe} said, and {mhe} held {him} tight.
[They ate {soup}, and {hero} told the whole story.|That night {hero} slept in a warm bed.|{Hero} was so glad to be home.]""",
              ["{Hero} promised never to run away like that again.", "{Hero} learned to look where {he} was going.", "And {hero} never forgot {elder} who had helped {him}.", "There is no place like home."])

RACE = Plot("any", """
{one_day} there was a big race {in_wild}. {Hero} wanted to win. "[I am the fastest of all|Nobody can beat me|I will win easily]!" {he} said. {His} friend, {a_friend}, wanted to run, too. "[I will do my best|I am not fast, but I will try]," said {friend}.
"Ready, steady, go!" called {a_elder}. [They ran as fast as the wind.|Everyone ran.|Off they went!] {Hero} was the first[ by far|]. {He} [looked back and laughed|was so proud that {he} did not look at the ground]. Then {he} [tripped over a root|stepped on a stone|slipped in the mud] and fell. "Ouch! My [leg|foot]!" {he} cried. The others ran past {him}.
But {friend} stopped. "[Are you hurt|Can you stand up]?" {fhe} asked. "[Run on|Do not wait for me]," said {hero}. "You can still win!" "[A friend is more important than a race|I will not leave you here]," said {friend}. {Friend} helped {hero} to get up, and side by side they walked to the end.
They were the last, but everyone [clapped|cheered] loudly. "[You two have won something better than a race|You are the real winners]," said {elder}, and gave them [a basket of {foods}|a golden cup|a crown of flowers]. [{Hero} was a little ashamed. "I am sorry that I boasted," {he} said.|"Thank you, {fcall}," said {hero}. "You are the best friend of all."]""",
            ["{Hero} learned that friends are more important than winning.", "And {hero} never boasted again.", "From that day on, {hero} and {friend} always ran together.", "It is not always the fastest who wins."])

GREEDY = Plot("any", """
{one_day} {mom} made a big plate of {cakes}. "They are for the [party|guests|feast] tonight," said {mom}. "Please do not eat them now." Then {mom} went out.
{Hero} looked at the {cakes}. [They smelled so sweet.|They were still warm.|They looked so good.] "[Just one|Only a very small one|Nobody will see it]," said {hero}, and {he} ate one. It was delicious! [So {he} ate another, and another.|Then {he} ate one more, and one more.] Soon the plate was empty!
Then {his} tummy began to hurt. "[Oh, my tummy|Ouch]!" {hero} said, and {he} had to lie down. When {mom} came home, {mhe} saw the empty plate. "Where are the {cakes}?" {mhe} asked. {Hero} [turned red|looked down]. "[I ate them all|I am sorry. I could not stop]," {he} said. "And now I feel sick."
[{Mom} shook {mhis} head, but {mhe} was not angry for long.|{Mom} sighed.] "[You did not listen to me|Now you know why I said no]," said {mom}. {Mhe} brought {him} [a cup of tea|some warm water|a warm blanket]. When {hero} felt better, {he} said, "[I want to make it good again|May I help you to make new ones]." So they made new {cakes} together, and this time {hero} ate only one[, after dinner|].""",
              ["{Hero} learned that too much of a good thing is not good.", "From then on {hero} listened to {mom}.", "{Hero} never forgot that day.", "A little is often enough."])

BUILD = Plot("any", """
{one_day} {hero} and {his} friend, {a_friend}, wanted to build a [house|tower|castle|boat|bridge]=work. "[Let us use sticks and leaves|Let us use wood and stones]," said {hero}. They worked all morning. [They were in a hurry, for they wanted to play in it.|They laughed and sang while they worked.] "It is finished!" said {friend}.
But then came [a strong wind|a big wave|a heavy rain], and the {work} fell down. [Everything was in pieces.|Nothing was left but a pile of wood.] "All our work is gone!" said {friend}[ and began to cry|]. {Hero} was sad, too. {A_elder} came by and looked at the pieces. "[A good {work} needs time|You must begin with the bottom]," {ehe} said. "[Put the big stones first and the small ones on top|Tie the pieces together with a strong rope|Make the walls thick and deep in the ground]."
"[Let us try again|We can do better]," said {hero}. So they began once more. {Hero} [carried the wood|brought the stones], and {friend} [tied the ropes|held everything in place]. This time they [did not hurry|worked slowly and carefully]. [At last|In the evening] the new {work} was ready. It was [bigger and stronger|much better] than the first. When the [wind|rain] came again, the {work} did not fall.
["We did it!" they shouted.|They danced around it and cheered.] [They ate {foods} in front of it and looked at the stars.|That night they told stories there until they fell asleep.|All their friends came to see it.]""",
             ["{Hero} and {friend} learned that good work takes time.", "They learned that you can always begin again.", "{Hero} was proud, and so was {friend}.", ""])

SICK = Plot("any", """
{Hero} had a good friend, {a_friend}. Every day they played {game} together. But one day {friend} did not come. {Hero} waited [under the tree|by the gate|for a long time], but {friend} was not there. "[Where can {fhe} be?|I hope that all is well,]" said {hero}.
So {hero} went to the home of {friend} and knocked on the door. Knock, knock. "Come in," said a weak voice. {Friend} was lying in bed. {Fhis} nose was [hot|red], and {fhe} [coughed|sneezed]. "I am sick," said {friend}. "I cannot play today."
"[Poor {fcall}|Oh dear]!" said {hero}. "[Stay in bed|Do not worry], I will [take care of you|make you well again]." {He} ran home and made some {soup} with {mom}. {He} also brought {a_toy} and [a book with pictures|a bunch of flowers|some {foods}].
{Friend} ate the {soup}[ until the bowl was empty|]. Then {hero} [told a funny story|read a long story|sang a soft song], and {friend} [laughed|smiled] and fell asleep. [The next day {hero} came again, and the next day, too.|Each day {hero} came back with something good.] [After three days|At the end of the week|Soon], {friend} was well again. "[You made me well|Your {soup} was the best medicine|Thank you for taking care of me]," said {friend}. They went out and played {game} in the sun.""",
            ["A good friend is the best medicine.", "{Hero} was so happy to have {his} friend back.", "When {hero} was sick one day, {friend} came with {soup}, too.", "That is what friends are for."])

MAGIC = Plot("any", """
{one_day} {hero} found a [shiny|strange|round|golden] stone {at}. When {he} [rubbed it|picked it up], a [tiny|small] fairy came out! "[You have found my magic stone|Thank you for waking me]," said the fairy. "You may have one wish."
{Hero} [thought for a long time|did not know what to say]. [{He} could wish for a mountain of {foods}, or for a house of gold.|{He} could wish for a hundred toys, or for wings.] "May I think about it?" {he} asked. "Of course," said the fairy.
On {his} way home {hero} met {a_friend}. {Friend} was [crying|very sad]. "What is wrong?" asked {hero}. "[My house has burned down, and I have no place to sleep|My little brother is very sick|There has been no rain, and all my food is gone]," said {friend}. {Hero} [felt sad for {friend}|looked at the stone in {his} hand|did not think about the {foods} any more]. Now {he} knew what to wish for.
"[I wish that {friend} may be happy again|Please, fairy, help {friend}]," said {hero}. The fairy smiled and waved her hand. There was a bright light, and then [everything was good again|the wish came true]! {Friend} could not believe it. "[You gave your wish to me|You could have wished for anything]!" said {friend}. "[I have all that I need|It is more fun to see you smile]," said {hero}.
["You have a good heart," said the fairy, and she gave {hero} {a_toy}.|The fairy put the stone back in {his} hand. "Keep it," she said. "It will always be warm when you are kind."]""",
             FRIENDS + ["{Hero} learned that making others happy makes you happy, too.", "The best wish is one for somebody else."])

SNOW = Plot("any", """
One winter morning, {hero} looked outside. Everything was white! "[It has snowed|Snow! Snow]!" {he} shouted. {He} [put on a warm hat|put on a long scarf] and ran out. {A_friend} was there already. "[Let us make a snowman,|Shall we make a snowman?]" said {friend}.
They rolled a big ball, and then a smaller one, and then a very small one. [They put them on top of each other.|It was hard work, but they did it.] "He needs a nose," said {friend}. {Hero} got a carrot from {mom}. They took [two black stones|two buttons] for the eyes and [sticks|twigs] for the arms. "[He looks cold|Something is missing]," said {hero}, and {he} put {his} own [hat|scarf]=wear on the snowman. Now he looked [very fine|like a king|happy].
They played around the snowman [all day|until it was dark]. [They threw snowballs and laughed.|They slid down the hill again and again.] Then they went inside and drank hot [milk|tea|chocolate]. [The snowman looked through the window and smiled.|"Good night, snowman," they said.]
After some days the sun came out, and it was warm. The snowman was [smaller and smaller|gone], and {hero} found {his} {wear} in a puddle. {He} was sad. "[Do not be sad|He has only gone away for a while]," said {mom}. "[He will come back with the next snow|Next winter you can make him again]." {Hero} [smiled|nodded]. "[Then I will keep a carrot for him|I will wait for him]," {he} said.""",
            ["And when the snow came again, {hero} and {friend} were ready.", "{Hero} learned that nice things may go, but they come back."], False)

QUARREL = Plot("any", """
{Hero} and {his} friend, {a_friend}, always played together. {one_day} they found {a_toy} {spot}. "[I saw it first|It is mine]!" said {hero}. "[No, I saw it first|No, it is mine]!" said {friend}. {Hero} pulled on one side, and {friend} pulled on the other. [Rip! went the {toy}.|They both fell down in the mud.|They shouted so loudly that all the birds flew away.] "[I do not want to play with you any more|You are not my friend]!" said {hero}, and {he} went home.
At home {hero} [sat in a corner|looked out of the window]. [It was no fun to play alone.|The house was so quiet.|{He} was angry at first, and then {he} was only sad.] "[What is wrong|Why are you so quiet]?" asked {mom}. {Hero} told {mhim} everything. "[What is more important, a {toy} or a friend|Do you like the {toy} more than {friend}]?" asked {mom}. {Hero} thought about that for a long time.
The next morning {he} went to find {friend}. But {friend} was already on the way to {hero}! "[I am sorry|I am sorry that I shouted]," said {hero}. "I am sorry, too," said {friend}. "You can have the {toy}." "No," said {hero}, "[it is for both of us|let us share it. You take it today, and I take it tomorrow]." They [hugged|laughed and shook hands], and then they played [with the {toy} together|{game} until the sun went down].""",
               ["They learned that it is better to share than to fight.", "And they never had a fight about a {toy} again.", "From then on the {toy} belonged to both of them.",
                "A friend is worth more than any {toy}."])

VISIT = Plot("any", """
{one_day} {hero} wanted to [bring {foods} to|visit] {a_elder}, who lived on the other side of the {wild}. "[Stay on the path|Be home before dark]," said {mom}. {Hero} [put everything in a basket|took a basket of {foods}] and went off[ with a song|].
On the way {he} met {a_friend}. "Where are you going?" asked {friend}. "[To the other side of the {wild}|I am going to visit {elder}]," said {hero}. "[Come with me!|Do you want to come?]" So they went on together. They came to a [wide stream|deep river]. There was no bridge! "[How can we cross it|What now]?" asked {hero}. {Friend} [looked around|had an idea]. "[There is a fallen tree. We can walk over it|I see some big stones in the water. We can step on them]," {fhe} said. Step by step they crossed the water. [Once {hero} almost fell, but {friend} held {him}.|{Hero} held the basket high above the water.|It was a little scary, but they did it.]
[At last|Soon] they came to a little house. {Elder} was so happy to see them! "[Nobody has visited me for a long time|What a nice surprise]," {ehe} said. They ate {foods}, and {elder} told them [a story about the sea|a story about a dragon|how everything was long ago]. [They listened with open mouths.|It was the best story that they had ever heard.] When they left, {ehe} gave them [a jar of honey|{a_toy}|a bunch of flowers]. "[Come again soon|Thank you for your visit]," said {elder}. {Hero} and {friend} were home before dark.""",
             ["After that they visited {elder} every week.", "{Hero} learned that a visit is the best gift for someone who is alone.", "{Hero} and {friend} have been friends ever since.",
              "\"That was an adventure,\" said {hero}, and fell asleep at once."])

JAR = Plot("child", """
{one_day} {hero} caught a [butterfly|beetle|ladybug|firefly]=bug and put it in a jar. "[You are so pretty|Look at my {bug}]," {he} said. "You will [live with me|always be mine]." But in the jar the {bug} [sat still|did not move] and looked sad.
"[Why does it not fly|Is it sick]?" {he} asked {mom}. "[It has no room to fly|It wants to go home]," said {mom}. "How would you feel in a jar?" {Hero} thought about that. [{He} would be sad in a jar, too.|{He} would miss the sky and the sun.]
So {he} took the jar to the {place} and opened it. "[Fly home, little {bug}|You are free]!" {he} said. The {bug} flew [once around {his} head|up and up] and then away. [{Hero} waved until it was out of sight.|{Hero} was a little sad, but {he} was happy, too.] [The next day a {bug} sat on {his} window.|"That was the right thing to do," said {mom}.]""",
            ["{Hero} learned that who loves someone lets them be free.", "After that {hero} looked at them only in the grass.", ""])

NEST = Plot("any", """
{one_day} {hero} found a tiny baby bird {spot}. "[Peep, peep]!" it cried. It had fallen out of its nest. "[Poor little bird|Do not be afraid]," said {hero}. {He} wanted to put it back, but the nest was too high.
{His} friend, {a_friend}, came by. "[I know what to do|I have an idea]," said {friend}. "[You can stand on my back|We can put some boxes on top of each other|I will hold you up]." {Hero} [climbed up|went up] with the bird. [Higher and higher!|It was a long way up.] At last {he} put it back in the nest, beside its brothers and sisters.
The mother bird came flying home. "[Thank you|How can I thank you]?" she sang. [Every morning she sang a song for {hero} and {friend}.|She gave them a blue feather.|She flew around them three times.]""".replace("Thank you|How can I thank you]?", "You are so kind|Thank you, thank you]!"),
             ["{Hero} was happy that {he} had helped.", "Even a small help can be a big thing.", "{Hero} and {friend} smiled all day.", FRIENDS[0]])

SMALL = Plot("any", """
{Hero} was very small. "You are too small to play with us," said the others. [That made {him} sad.|{Hero} sat alone and watched them.]
{one_day} the others played ball {at}, and the ball rolled into a [narrow hole|hole in a wall]. They tried to reach it, but [their arms were too short|the hole was too narrow]. "[What now|Our ball is gone]!" they cried. "[Let me try|I can do it]," said {hero}. [The others laughed, but {hero} did not mind.|"You?" asked {a_friend}.] {He} crawled into the hole. It was [dark|dusty] in there, but {he} was not afraid. Soon {he} came out with the ball!
"[Hooray|Well done]!" cried the others. "[We are sorry|You are not too small at all]. Do you want to play with us?" {Hero} [smiled and nodded|was so happy]. [They played until the stars came out.|That day {he} made more goals than anyone.]""",
              ["{Hero} learned that being small can be a big help.", "And nobody ever said that {hero} was too small again.", "Everyone is good at something."])

TIDY = Plot("child", """
{Hero}'s room was never clean. There were [toys|books and socks] everywhere. "Please clean your room," said {mom}. "[Later|Not now]," said {hero}.
{one_day} {he} wanted to play with {his} {toy}, but {he} could not find it. {He} looked [under the bed|behind the door] and [in the box|under the chair], but it was not there. "[Where is it?|I need my {toy}!]" {he} said, and {he} was [very sad|almost crying]. "If everything had its place, you would find it," said {mom}.
So {hero} began to clean. {He} put the books on the shelf and the socks in a drawer. [{Mom} helped {him} a little.|{He} sang a song while {he} worked.] And when everything was in its place, what did {he} see? The {toy}! It had been [under a shirt|behind a big book] all the time. {Hero} laughed. "[Now I know|You were right]," {he} told {mom}.""",
             ["From then on {hero} cleaned {his} room every day.", "{Hero} learned to put things back in their place.", "And {hero} liked {his} clean room very much."])

PICNIC = Plot("any", """
{one_day} {hero} and {his} friend, {a_friend}, had a picnic {in_wild}. They had {foods}, bread, and a bottle of juice. They [put a blanket on the grass|sat down under a tree] and began to eat. "[This is nice|I am so hungry]," said {friend}.
Then a little ant came. And another ant, and another! Soon there were ants everywhere. "[Go away|That is our food]!" cried {friend}. But {hero} [laughed|looked at them]. "[They are only hungry, like us|They are so small, they will not eat much]," {he} said. {Hero} put some bread on a leaf [beside the blanket|a little way off]. All the ants ran to it and [carried it home|ate it up]. "[Look how strong they are|They work together]!" said {friend}.
[So there was enough for everyone.|Then {hero} and {friend} ate the rest and watched the clouds.|When the food was gone, they played {game}.]""",
               ["It was a lovely day.", "{Hero} and {friend} learned that there is room for everyone.", "\"Next time we will bring more bread,\" said {hero}.", ""])

COLD = Plot("any", """
{one_day} it was very cold, and {hero} put on {his} warm scarf. On the way to the {place} {he} saw {a_friend}, who [shivered in the wind|was so cold that {fhis} teeth chattered]. "[I have no scarf|I am so cold]," said {friend}. {Hero} looked at {his} scarf. It was [red and soft|long and blue], and {he} liked it very much.
"[It is long enough for two|We can share it]," {he} said. {He} put one end around {friend}, and the other end around {himself}. "[Oh, how warm|That is so nice]!" said {friend}. But now they had to walk side by side, step by step. [They fell down, and they laughed.|It was very funny.] [That was how they came to the {place}.|So they went on, and they told each other jokes.]
{Mom} saw them and smiled. The next day {mhe} made another scarf, and {hero} gave it to {friend}.""",
             FRIENDS[:3] + ["What you share keeps two warm.", ""])

PLOTS = [LOST, SHARE, STORM, RESCUE, LEARN, TRUTH, NEWCOMER, GIFT, GARDEN, NIGHT, ASTRAY, RACE, GREEDY, BUILD, SICK, MAGIC, SNOW,
         QUARREL, VISIT, JAR, NEST, SMALL, TIDY, PICNIC, COLD]
